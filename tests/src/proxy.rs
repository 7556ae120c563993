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

/// What one connection sees of that.
struct Sees {
    state: watch::Receiver<State>,
    cuts_before: usize,
}

impl Sees {
    fn from_now(state: &watch::Sender<State>) -> Self {
        let state = state.subscribe();
        let cuts_before = state.borrow().cuts;
        Self { state, cuts_before }
    }

    fn wire(&self) -> Wire {
        self.state.borrow().wire
    }

    async fn is_cut(&mut self) {
        let cuts_before = self.cuts_before;
        let is_cut = |state: &State| state.wire == Wire::IsCut || state.cuts != cuts_before;
        let _cut = self.state.wait_for(is_cut).await;
    }
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
        let (seen, counter) = (Arc::clone(&state), Arc::clone(&sent));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if seen.borrow().wire == Wire::IsCut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let (asked, answered) = (Sees::from_now(&seen), Sees::from_now(&seen));
                tokio::spawn(asks(from_client, to_server, asked, Arc::clone(&counter)));
                tokio::spawn(answers(from_server, to_client, answered));
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
    mut sees: Sees,
    sent: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 65_536];
    while let Some(read) = read(&mut from, &mut buffer, &mut sees).await {
        sent.fetch_add(read, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// How many bytes have come, until the wire is cut at either end or here.
async fn read(from: &mut OwnedReadHalf, buffer: &mut [u8], sees: &mut Sees) -> Option<usize> {
    tokio::select! {
        read = from.read(buffer) => read.ok().filter(|read| *read > 0),
        () = sees.is_cut() => None,
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut sees: Sees) {
    let mut buffer = vec![0; 65_536];
    while let Some(read) = read(&mut from, &mut buffer, &mut sees).await {
        match sees.wire() {
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
