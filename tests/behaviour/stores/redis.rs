//! What Redis alone has to withstand: lists of what is allowed, other versions, clusters, and what else the name stands for.

use std::{process::Command, time::Duration as StdDuration};

use axum::{Router, routing::get};
use fred::prelude::{ClientLike as _, Config, KeysInterface as _, Pool};
use session_refresh::{
    session_refresh,
    store::{RedisClient, RedisStore, Touched, V0_14, V0_15, conformance},
};
use session_refresh_tests::{
    Events, OwnServer, Owned, Setup,
    backends::{Backend as _, Redis, RedisRs},
    free_port,
};
use time::{Duration, OffsetDateTime};
use tower_sessions::{
    Session, SessionStore,
    session::{Id, Record},
};

use super::extend;

#[session_refresh(interval = "24h")]
async fn page(session: Session) -> String {
    let role: Option<String> = session.get("role").await.unwrap();
    role.unwrap_or_default()
}

/// A server's URL for a user of its own.
fn url(server: &OwnServer, login: &str) -> String {
    format!("redis://{login}127.0.0.1:{}", server.port())
}

/// What both clients do on a server, as a user who may do this and that.
async fn as_both_clients(
    server: &OwnServer,
    login: &str,
    check: impl AsyncFn(Result<(), String>, &dyn Sessions),
) {
    let url = url(server, login);
    let fred = RedisStore::new(Redis::at(&url).await.pool);
    let checked = fred.check().await.map_err(|error| error.to_string());
    check(checked, &fred).await;
    let redis_rs = RedisRs::at(&url).await.touching();
    let checked = redis_rs.check().await.map_err(|error| error.to_string());
    check(checked, &redis_rs).await;
}

/// A site whose sessions are in a store, and what its events say.
#[async_trait::async_trait]
trait Sessions: Sync {
    /// A session by upstream's store is read a day later, and is due. Answers what the page says, its outcome, and the events.
    async fn served(&self, record: Record) -> (String, String, Vec<String>);
}

#[async_trait::async_trait]
impl<C: RedisClient> Sessions for RedisStore<C> {
    async fn served(&self, record: Record) -> (String, String, Vec<String>) {
        let events = Events::record();
        let routes = Router::new().route("/page", get(page));
        let site = Setup::new(routes).on(Owned(self.clone())).start().await;
        site.clock.advance(Duration::DAY);
        let cookie = format!("id={}", record.id);
        let answer = site.visitor().get_with("/page", "cookie", &cookie).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let warned = (events.ours().into_iter())
            .filter(|event| event.level <= tracing::Level::WARN)
            .map(|event| event.text);
        (
            answer.text.clone(),
            answer.outcome().to_owned(),
            warned.collect(),
        )
    }
}

fn logged_in() -> Record {
    Record {
        id: Id::default(),
        data: [("role".to_owned(), "user".into())].into(),
        expiry_date: OffsetDateTime::now_utc() + Duration::weeks(2),
    }
}

/// S7: an access control list that was made for upstream's store, and sessions that it has written.
#[tokio::test]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn what_an_access_control_list_forbids_is_named_and_sessions_are_served() {
    let server = OwnServer::redis(&[
        "--user",
        "old",
        "on",
        ">pw",
        "~*",
        "+get",
        "+set",
        "+del",
        "+@connection",
        "+info",
        "--user",
        "default",
        "on",
        "nopass",
        "~*",
        "+@all",
    ]);
    let theirs = Redis::at(&url(&server, "")).await.plain();
    as_both_clients(&server, "old:pw@", async |checked, sessions| {
        let missing = checked.unwrap_err();
        assert_eq!(
            missing,
            "Redis lacks commands that sessions or their refreshes need: its access control list forbids PEXPIRETIME, EVAL, \
             EVALSHA"
        );
        let mut record = logged_in();
        theirs.create(&mut record).await.unwrap();
        let (text, outcome, events) = sessions.served(record).await;
        assert_eq!((&*text, &*outcome), ("user", "unavailable"));
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].contains(&missing), "{events:?}");
    })
    .await;
}

/// The commands that the documentation lists suffice, on keys with a prefix; scripts may still lack one.
#[tokio::test]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn the_documented_access_control_list_suffices_and_each_of_its_commands_is_needed() {
    let documented = [
        "get",
        "set",
        "del",
        "eval",
        "evalsha",
        "pexpiretime",
        "pexpireat",
        "getrange",
        "strlen",
        "setrange",
    ];
    let commands = documented.map(|command| format!("+{command}"));
    let own = ["+client", "+hello", "+info", "+ping"].map(str::to_owned);
    let user = |name: &str, without: Option<usize>| {
        let commands = (commands.iter().enumerate()).filter(|(place, _)| Some(*place) != without);
        let mut user = ["--user", name, "on", ">pw", "resetchannels", "~sessions:*"]
            .map(str::to_owned)
            .to_vec();
        user.extend(
            commands
                .map(|(_, command)| command.clone())
                .chain(own.clone()),
        );
        user
    };
    let mut options = user("all", None);
    for (place, command) in documented.iter().enumerate() {
        options.extend(user(&format!("no_{command}"), Some(place)));
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let server = OwnServer::redis(&options);
    let at = url(&server, "all:pw@");
    let fred = RedisStore::new(Redis::at(&at).await.pool).with_key_prefix("sessions:");
    fred.check().await.unwrap();
    conformance::check::<V0_14, _>(fred).await;
    let redis_rs = RedisRs::at(&at)
        .await
        .touching()
        .with_key_prefix("sessions:");
    redis_rs.check().await.unwrap();
    conformance::check::<V0_14, _>(redis_rs).await;
    for command in documented {
        let at = url(&server, &format!("no_{command}:pw@"));
        let store = RedisRs::at(&at)
            .await
            .touching()
            .with_key_prefix("sessions:");
        let missing = store.check().await.unwrap_err().to_string();
        let named = format!("forbids {}", command.to_uppercase());
        assert!(missing.ends_with(&named), "{missing}");
    }
    // Keys that the list does not allow are another matter: the server's own words say it.
    let store = RedisRs::at(&at).await.touching();
    let error = store.check().await.unwrap_err().to_string();
    assert!(error.starts_with("NOPERM"), "{error}");
}

/// S8 and S9: a server that is too old, or has commands under other names.
#[tokio::test]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn a_command_that_a_server_does_not_know_is_named_and_no_id_is() {
    for command in ["PEXPIRETIME", "EVALSHA", "SETRANGE"] {
        let server = OwnServer::redis(&["--rename-command", command, ""]);
        let theirs = Redis::at(&url(&server, "")).await.plain();
        as_both_clients(&server, "", async |checked, sessions| {
            let missing = checked.unwrap_err();
            assert_eq!(
                missing,
                format!(
                    "Redis lacks commands that sessions or their refreshes need: it does not know {command} (it is older than \
                     Redis 7, or a command was renamed)"
                )
            );
            let mut record = logged_in();
            theirs.create(&mut record).await.unwrap();
            let (text, outcome, events) = sessions.served(record.clone()).await;
            assert_eq!((&*text, &*outcome), ("user", "unavailable"));
            assert_eq!(events.len(), 1, "{events:?}");
            assert!(events[0].contains(&missing), "{events:?}");
            assert!(!events[0].contains(&record.id.to_string()), "{events:?}");
        })
        .await;
    }
}

#[tokio::test]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn a_server_that_can_do_everything_passes_the_check_which_writes_nothing() {
    let server = OwnServer::redis(&[]);
    as_both_clients(&server, "", async |checked, _| checked.unwrap()).await;
    let pool = Redis::at(&url(&server, "")).await.pool;
    let keys: i64 = pool
        .custom(fred::cmd!("DBSIZE"), Vec::<String>::new())
        .await
        .unwrap();
    assert_eq!(keys, 0);
}

/// A touch needs no more memory than its session has. What does is known to the server all the same.
#[tokio::test]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn a_server_that_is_out_of_memory_still_touches_what_it_has() {
    let server = OwnServer::redis(&[]);
    let backend = Redis::at(&url(&server, "")).await;
    let mut record = logged_in();
    backend.touching().create(&mut record).await.unwrap();
    let limit: Result<(), _> = (backend.pool)
        .custom(fred::cmd!("CONFIG"), vec!["SET", "maxmemory", "1"])
        .await;
    limit.unwrap();
    let expiry = record.expiry_date + Duration::DAY;
    let store = backend.touching();
    let touched = extend(&store, record.id, expiry).await;
    assert_eq!(touched.unwrap(), Touched::Done);
    assert!(store.save(&record).await.is_err());
    store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_redis, ignore = "REDIS_URL is not set")]
async fn every_client_keeps_the_promises_of_touch() {
    let backend = RedisRs::connect().await;
    conformance::check::<V0_15, _>(backend.touching()).await;
    let client = redis::Client::open(std::env::var("REDIS_URL").unwrap()).unwrap();
    let multiplexed = client.get_multiplexed_async_connection().await.unwrap();
    conformance::check::<V0_14, _>(RedisStore::new(multiplexed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_valkey, ignore = "VALKEY_SERVER is not set")]
async fn valkey_keeps_the_promises_of_touch() {
    let server = OwnServer::redis_named_by("VALKEY_SERVER", &[]);
    let at = url(&server, "");
    let fred = RedisStore::new(Redis::at(&at).await.pool);
    fred.check().await.unwrap();
    conformance::check::<V0_14, _>(fred).await;
    let redis_rs = RedisRs::at(&at).await.touching();
    redis_rs.check().await.unwrap();
    conformance::check::<V0_14, _>(redis_rs).await;
}

/// Three servers that have the keys' slots among them.
fn cluster() -> [OwnServer; 3] {
    let mut servers = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        servers.push(OwnServer::redis(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-node-timeout",
            "5000",
        ]));
    }
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]);
    for server in &servers {
        create.arg(format!("127.0.0.1:{}", server.port()));
    }
    let created = create.arg("--cluster-yes").output().unwrap();
    let said = String::from_utf8_lossy(&created.stdout);
    assert!(created.status.success(), "{said}");
    // Each of them has to have heard of it.
    for server in &servers {
        loop {
            let info = Command::new("redis-cli")
                .args(["-p", &server.port().to_string(), "cluster", "info"])
                .output()
                .unwrap();
            if String::from_utf8_lossy(&info.stdout).contains("cluster_state:ok") {
                break;
            }
            std::thread::sleep(StdDuration::from_millis(50));
        }
    }
    servers.try_into().expect("three")
}

/// Sessions lie on all nodes, and each command and script finds its own. A session is read by whatever client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn in_a_cluster_every_client_keeps_the_promises_of_touch() {
    let servers = cluster();
    let nodes = servers.each_ref().map(|server| url(server, ""));
    let config = Config::from_url(&nodes[0].replace("redis://", "redis-cluster://")).unwrap();
    let pool = Pool::new(config, None, None, None, 2).unwrap();
    pool.init().await.unwrap();
    let fred = RedisStore::new(pool);
    let client = redis::cluster::ClusterClient::new(nodes.to_vec()).unwrap();
    let redis_rs = RedisStore::new(client.get_async_connection().await.unwrap());
    fred.check().await.unwrap();
    redis_rs.check().await.unwrap();
    conformance::check::<V0_14, _>(fred.clone()).await;
    conformance::check::<V0_14, _>(redis_rs.clone()).await;
    for _ in 0..100 {
        let mut record = logged_in();
        fred.create(&mut record).await.unwrap();
        let expiry = record.expiry_date + Duration::DAY;
        let touched = extend(&redis_rs, record.id, expiry).await.unwrap();
        assert_eq!(touched, Touched::Done);
        let read = fred.load(&record.id).await.unwrap().unwrap();
        assert!(read.expiry_date - record.expiry_date > Duration::hours(23));
    }
    let mut shares = 0;
    for server in &servers {
        let size = Command::new("redis-cli")
            .args(["-p", &server.port().to_string(), "dbsize"])
            .output()
            .unwrap();
        let size: usize = String::from_utf8_lossy(&size.stdout)
            .trim()
            .parse()
            .unwrap();
        assert!(size > 0, "a node has no session");
        shares += size;
    }
    assert!(shares >= 100);
}

/// Somebody has taken its expiry from a key, of a record that does not end with its own.
#[tokio::test]
#[cfg_attr(without_redis, ignore = "REDIS_URL is not set")]
async fn a_key_that_never_expires_leaves_the_record_its_own_end() {
    let backend = Redis::connect().await;
    let mut record = Record {
        id: Id::default(),
        data: [("user".to_owned(), 7.into())].into(),
        expiry_date: OffsetDateTime::now_utc() + Duration::HOUR,
    };
    backend.plain().create(&mut record).await.unwrap();
    let key = record.id.to_string();
    let persisted: bool = backend.pool.persist(key).await.unwrap();
    assert!(persisted);
    let found = backend.touching().load(&record.id).await.unwrap();
    assert_eq!(found, Some(record));
}
