//! Something between a store and its server that goes wrong when told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What becomes of what the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// It arrives.
    Works,
    /// Connections are closed, and new ones as soon as they are made.
    IsCut,
    /// It arrives so much later.
    Delays(Duration),
    /// It does not arrive, and nobody hears that.
    IsHalfOpen,
    /// Something else arrives.
    Garbles,
}

#[derive(Clone, Copy, Debug)]
struct State {
    wire: Wire,
    /// How often all connections have been cut.
    cuts: usize,
}

/// Stands between stores and a server on 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<watch::Sender<State>>,
    sent: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of a server, `host:port`.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let state = Arc::new(watch::Sender::new(State {
            wire: Wire::Works,
            cuts: 0,
        }));
        let sent = Arc::<AtomicUsize>::default();
        let (sees, counter) = (Arc::clone(&state), Arc::clone(&sent));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if sees.borrow().wire == Wire::IsCut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let state = sees.subscribe();
                tokio::spawn(asks(from_client, to_server, state, Arc::clone(&counter)));
                tokio::spawn(answers(from_server, to_client, sees.subscribe()));
            }
        });
        Self { port, state, sent }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes wrong from now on.
    pub fn now(&self, wire: Wire) {
        self.state.send_modify(|state| state.wire = wire);
    }

    /// All goes well from now on, on new connections.
    pub fn is_mended(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.wire = Wire::Works;
        });
    }

    /// How many bytes the stores have sent so far.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

async fn asks(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    sent: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 65_536];
    while let Some(read) = read(&mut from, &mut buffer, &mut state).await {
        sent.fetch_add(read, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// How many bytes have come, until the wire is cut at either end or here.
async fn read(
    from: &mut OwnedReadHalf,
    buffer: &mut [u8],
    state: &mut watch::Receiver<State>,
) -> Option<usize> {
    let cuts = state.borrow().cuts;
    let cut = async {
        let is_cut = |state: &State| state.wire == Wire::IsCut || state.cuts != cuts;
        let _cut = state.wait_for(is_cut).await;
    };
    tokio::select! {
        read = from.read(buffer) => read.ok().filter(|read| *read > 0),
        () = cut => None,
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 65_536];
    while let Some(read) = read(&mut from, &mut buffer, &mut state).await {
        let now = state.borrow().wire;
        match now {
            Wire::Works => {}
            Wire::IsCut => return,
            Wire::Delays(by) => tokio::time::sleep(by).await,
            Wire::IsHalfOpen => continue,
            Wire::Garbles => buffer[..read].fill(b'\xa7'),
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
