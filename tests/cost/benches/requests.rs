//! Instructions and allocations of one request, counted: the figures repeat, whatever else the machine is doing.

use std::hint::black_box;

use axum::{
    Router,
    body::Body,
    http::{Request, header},
    response::Response,
};
use gungraun::{
    Callgrind, Dhat, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use serde_json::json;
// It takes the place of glibc's, which joins free blocks of any size now and then: that moves single counts by thousands of
// instructions.
use mimalloc as _;
use session_refresh_cost::{
    COOKIE, EncodedStore, LIFETIME, Way, lifetime_pages, pages, record, stamps,
};
use time::{Duration, OffsetDateTime};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use tower_sessions::{MemoryStore, SessionStore, session::Record};

use Way::{AlwaysSave, Attribute, ByHand, Floor, Login, LoginFloor, Told};

/// Where the sessions are.
#[derive(Clone, Copy)]
enum At {
    /// tower-sessions' `MemoryStore`.
    Memory,
    /// The same under a `LifetimeLayer`.
    MemoryTouch,
    /// A store of bytes.
    Encoded,
    /// The same under a `LifetimeLayer`.
    EncodedTouch,
}

use At::{Encoded, EncodedTouch, Memory, MemoryTouch};

/// A request that is ready to go, and the application that answers it.
struct Prepared {
    runtime: Runtime,
    pages: Router,
    request: Request<Body>,
}

fn not_due(at: At, way: Way, bytes: usize) -> Prepared {
    prepared(at, way, Some((bytes, Duration::hours(1))))
}

fn due(at: At, way: Way, bytes: usize) -> Prepared {
    prepared(at, way, Some((bytes, Duration::hours(25))))
}

fn visitor(at: At, way: Way) -> Prepared {
    prepared(at, way, None)
}

/// An application that has answered a request like this before, and the request. Its session has a size and an age.
fn prepared(at: At, way: Way, session: Option<(usize, Duration)>) -> Prepared {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime starts");
    let (memory, encoded) = (MemoryStore::default(), EncodedStore::default());
    let pages = match at {
        Memory => pages(way, memory.clone()),
        MemoryTouch => lifetime_pages(way, memory.clone()),
        Encoded => pages(way, encoded.clone()),
        EncodedTouch => lifetime_pages(way, encoded.clone()),
    };
    let request = || {
        let mut request = Request::new(Body::empty());
        if let Some((bytes, age)) = session {
            let mut record = aged(bytes, age);
            runtime.block_on(async {
                match at {
                    Memory | MemoryTouch => memory.create(&mut record).await,
                    Encoded | EncodedTouch => encoded.create(&mut record).await,
                }
                .expect("a session is created");
            });
            let cookie = format!("{COOKIE}={}", record.id);
            let cookie = cookie.parse().expect("an id fits into a header");
            request.headers_mut().insert(header::COOKIE, cookie);
        }
        request
    };
    // All sessions first: so what the answers free is there for the one that counts, as in a server that has run a while.
    let [first, second, request] = [(); 3].map(|()| request());
    for warm_up in [first, second] {
        let answer = runtime.block_on(pages.clone().oneshot(warm_up));
        assert!(answer.is_ok_and(|answer| answer.status().is_success()));
    }
    Prepared {
        runtime,
        pages,
        request,
    }
}

/// A session that was refreshed so long ago, as every way to remember that sees it, and that is logged in.
fn aged(bytes: usize, age: Duration) -> Record {
    let refreshed_at = OffsetDateTime::now_utc() - age;
    let mut record = record(bytes, refreshed_at + LIFETIME);
    record.data.extend(stamps(refreshed_at));
    let login = json!({"user_id": 1, "auth_hash": b"secret"});
    record.data.insert("axum-login.data".to_owned(), login);
    record
}

#[library_benchmark]
#[bench::floor(args = (Encoded, Floor), setup = visitor)]
#[bench::by_hand(args = (Encoded, ByHand), setup = visitor)]
#[bench::plain(args = (Encoded, Attribute), setup = visitor)]
#[bench::touch(args = (EncodedTouch, Attribute), setup = visitor)]
fn no_session(prepared: Prepared) -> (Prepared, Response) {
    answer(prepared)
}

#[library_benchmark]
#[bench::floor_100b(args = (Encoded, Floor, 100), setup = not_due)]
#[bench::by_hand_100b(args = (Encoded, ByHand, 100), setup = not_due)]
#[bench::always_save_100b(args = (Encoded, AlwaysSave, 100), setup = not_due)]
#[bench::plain_100b(args = (Encoded, Attribute, 100), setup = not_due)]
#[bench::touch_100b(args = (EncodedTouch, Attribute, 100), setup = not_due)]
#[bench::floor_1kb(args = (Encoded, Floor, 1_000), setup = not_due)]
#[bench::by_hand_1kb(args = (Encoded, ByHand, 1_000), setup = not_due)]
#[bench::always_save_1kb(args = (Encoded, AlwaysSave, 1_000), setup = not_due)]
#[bench::plain_1kb(args = (Encoded, Attribute, 1_000), setup = not_due)]
#[bench::touch_1kb(args = (EncodedTouch, Attribute, 1_000), setup = not_due)]
#[bench::floor_10kb(args = (Encoded, Floor, 10_000), setup = not_due)]
#[bench::by_hand_10kb(args = (Encoded, ByHand, 10_000), setup = not_due)]
#[bench::always_save_10kb(args = (Encoded, AlwaysSave, 10_000), setup = not_due)]
#[bench::plain_10kb(args = (Encoded, Attribute, 10_000), setup = not_due)]
#[bench::touch_10kb(args = (EncodedTouch, Attribute, 10_000), setup = not_due)]
#[bench::floor_100kb(args = (Encoded, Floor, 100_000), setup = not_due)]
#[bench::by_hand_100kb(args = (Encoded, ByHand, 100_000), setup = not_due)]
#[bench::always_save_100kb(args = (Encoded, AlwaysSave, 100_000), setup = not_due)]
#[bench::plain_100kb(args = (Encoded, Attribute, 100_000), setup = not_due)]
#[bench::touch_100kb(args = (EncodedTouch, Attribute, 100_000), setup = not_due)]
#[bench::plain_told_1kb(args = (Encoded, Told, 1_000), setup = not_due)]
#[bench::touch_told_1kb(args = (EncodedTouch, Told, 1_000), setup = not_due)]
#[bench::login_floor_1kb(args = (Encoded, LoginFloor, 1_000), setup = not_due)]
#[bench::login_plain_1kb(args = (Encoded, Login, 1_000), setup = not_due)]
#[bench::login_touch_1kb(args = (EncodedTouch, Login, 1_000), setup = not_due)]
fn not_due(prepared: Prepared) -> (Prepared, Response) {
    answer(prepared)
}

#[library_benchmark]
#[bench::by_hand_100b(args = (Encoded, ByHand, 100), setup = due)]
#[bench::plain_100b(args = (Encoded, Attribute, 100), setup = due)]
#[bench::touch_100b(args = (EncodedTouch, Attribute, 100), setup = due)]
#[bench::by_hand_1kb(args = (Encoded, ByHand, 1_000), setup = due)]
#[bench::plain_1kb(args = (Encoded, Attribute, 1_000), setup = due)]
#[bench::touch_1kb(args = (EncodedTouch, Attribute, 1_000), setup = due)]
#[bench::by_hand_10kb(args = (Encoded, ByHand, 10_000), setup = due)]
#[bench::plain_10kb(args = (Encoded, Attribute, 10_000), setup = due)]
#[bench::touch_10kb(args = (EncodedTouch, Attribute, 10_000), setup = due)]
#[bench::by_hand_100kb(args = (Encoded, ByHand, 100_000), setup = due)]
#[bench::plain_100kb(args = (Encoded, Attribute, 100_000), setup = due)]
#[bench::touch_100kb(args = (EncodedTouch, Attribute, 100_000), setup = due)]
#[bench::always_save_touch_1kb(args = (EncodedTouch, AlwaysSave, 1_000), setup = due)]
#[bench::plain_told_1kb(args = (Encoded, Told, 1_000), setup = due)]
#[bench::touch_told_1kb(args = (EncodedTouch, Told, 1_000), setup = due)]
#[bench::login_plain_1kb(args = (Encoded, Login, 1_000), setup = due)]
#[bench::login_touch_1kb(args = (EncodedTouch, Login, 1_000), setup = due)]
fn due(prepared: Prepared) -> (Prepared, Response) {
    answer(prepared)
}

#[library_benchmark]
#[bench::floor_1kb(args = (Memory, Floor, 1_000), setup = not_due)]
#[bench::by_hand_1kb(args = (Memory, ByHand, 1_000), setup = not_due)]
#[bench::always_save_1kb(args = (Memory, AlwaysSave, 1_000), setup = not_due)]
#[bench::plain_1kb(args = (Memory, Attribute, 1_000), setup = not_due)]
#[bench::touch_1kb(args = (MemoryTouch, Attribute, 1_000), setup = not_due)]
fn memory_store_not_due(prepared: Prepared) -> (Prepared, Response) {
    answer(prepared)
}

#[library_benchmark]
#[bench::by_hand_1kb(args = (Memory, ByHand, 1_000), setup = due)]
#[bench::plain_1kb(args = (Memory, Attribute, 1_000), setup = due)]
#[bench::touch_1kb(args = (MemoryTouch, Attribute, 1_000), setup = due)]
fn memory_store_due(prepared: Prepared) -> (Prepared, Response) {
    answer(prepared)
}

fn answer(prepared: Prepared) -> (Prepared, Response) {
    let Prepared {
        runtime,
        pages,
        request,
    } = prepared;
    let answer = runtime.block_on(black_box(pages.clone()).oneshot(black_box(request)));
    let Ok(answer) = answer;
    let request = Request::new(Body::empty());
    let prepared = Prepared {
        runtime,
        pages,
        request,
    };
    // Both are dropped by the caller, who is not measured.
    (prepared, answer)
}

// What decoding such a session costs: the measure for what a load may cost more.
#[library_benchmark]
#[bench::decode_1kb(args = (1_000), setup = bytes)]
#[bench::decode_10kb(args = (10_000), setup = bytes)]
fn codec(bytes: Vec<u8>) -> Record {
    rmp_serde::from_slice(&bytes).expect("it was encoded")
}

fn bytes(size: usize) -> Vec<u8> {
    let record = record(size, OffsetDateTime::now_utc());
    rmp_serde::to_vec(&record).expect("it can be encoded")
}

library_benchmark_group!(
    name = requests,
    benchmarks = [
        no_session,
        not_due,
        due,
        memory_store_not_due,
        memory_store_due,
        codec
    ]
);

main!(
    config = LibraryBenchmarkConfig::default()
        .tool(Callgrind::default())
        .tool(Dhat::with_args([
            "--num-callers=200",
            "--soname-synonyms=somalloc=NONE"
        ])),
    library_benchmark_groups = requests
);
