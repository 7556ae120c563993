//! What a store that can touch must do, as a suite that any store can run.
//!
//! ```no_run
//! # #[derive(Clone, Debug)] struct MyStore;
//! # use tower_sessions::{SessionStore, session::{Id, Record}, session_store::Result};
//! # #[async_trait::async_trait]
//! # impl SessionStore for MyStore {
//! #     async fn create(&self, _: &mut Record) -> Result<()> { Ok(()) }
//! #     async fn save(&self, _: &Record) -> Result<()> { Ok(()) }
//! #     async fn load(&self, _: &Id) -> Result<Option<Record>> { Ok(None) }
//! #     async fn delete(&self, _: &Id) -> Result<()> { Ok(()) }
//! # }
//! # impl session_refresh::store::Touch for MyStore {
//! #     async fn touch(&self, _: session_refresh::store::SessionId, _: std::ops::RangeInclusive<time::OffsetDateTime>, _: time::OffsetDateTime) -> std::result::Result<session_refresh::store::Touched, axum::BoxError> { unimplemented!() }
//! # }
//! # async fn f() { let my_store = MyStore;
//! // #[tokio::test]
//! session_refresh::store::conformance::check(my_store).await;
//! # }
//! ```

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    ops::RangeInclusive,
};

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

use super::{
    release::{Record, SessionId, StoreOf},
    touch::{Touch, Touched},
};

/// Holds `store` to everything that [`Touch`] promises. The store may hold other sessions.
///
/// # Panics
/// If a promise is broken; the message says which.
pub async fn check<R, S: Touch + StoreOf<R> + Clone>(store: S) {
    keeps_what_it_is_given(&store).await;
    updates_and_deletes(&store).await;
    creates_no_duplicate(&store).await;
    forgets_what_has_expired(&store).await;
    a_touch_moves_the_expiry_alone(&store).await;
    a_touch_is_conditional(&store).await;
    a_save_does_not_bring_back_what_is_gone(&store).await;
    of_racing_touches_one_is_done(&store).await;
    a_touch_loses_no_racing_save(&store).await;
    a_touch_undoes_no_racing_delete(&store).await;
}

/// Now, to the millisecond that every store keeps.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_millisecond(now.millisecond()).unwrap_or(now)
}

/// An id that no other record has.
fn new_id() -> SessionId {
    let random = RandomState::new();
    let half = |number: u8| i128::from(random.hash_one(number));
    SessionId(half(0) << 64 | half(1))
}

fn record(expiry_date: OffsetDateTime) -> Record {
    let data = HashMap::from([
        ("null".into(), Value::Null),
        ("text".into(), json!("grüße \"\\")),
        (
            "numbers".into(),
            json!([0, -1, 1.5, u64::MAX, i64::MIN, true]),
        ),
        ("nested".into(), json!({"a": {"b": [{"c": {}}, []]}})),
    ]);
    Record {
        id: new_id(),
        data,
        expiry_date,
    }
}

/// Holds what was loaded to what it should be. What differs is named, and no more of a record is shown.
#[track_caller]
fn assert_same(found: Option<Record>, expected: &Record, promise: &str) {
    let Some(found) = found else {
        panic!("{promise}: there is no record");
    };
    assert!(found.id == expected.id, "{promise}: `id` differs");
    for key in found.data.keys().chain(expected.data.keys()) {
        let (found, expected) = (found.data.get(key), expected.data.get(key));
        assert_eq!(found, expected, "{promise}: `data` differs under {key:?}");
    }
    let differs_by = found.expiry_date - expected.expiry_date;
    assert!(
        differs_by.abs() < Duration::MILLISECOND,
        "{promise}: `expiry_date` is {}, and should be {}",
        found.expiry_date,
        expected.expiry_date
    );
}

async fn created<R, S: StoreOf<R>>(store: &S, expires_in: Duration) -> Record {
    let mut record = record(now() + expires_in);
    store
        .create(&mut record)
        .await
        .expect("a record can be created");
    record
}

async fn loaded<R, S: StoreOf<R>>(store: &S, id: SessionId) -> Option<Record> {
    store
        .load(id)
        .await
        .expect("the store can be asked for a record")
}

async fn keeps_what_it_is_given<R, S: StoreOf<R>>(store: &S) {
    let record = created(store, Duration::hours(1)).await;
    assert_same(
        loaded(store, record.id).await,
        &record,
        "a record is loaded as it was created",
    );
    assert_eq!(
        loaded(store, new_id()).await,
        None,
        "an unknown id has no record"
    );
}

async fn updates_and_deletes<R, S: StoreOf<R>>(store: &S) {
    let mut record = created(store, Duration::hours(1)).await;
    record.data.insert("more".into(), json!(1));
    record.data.remove("text");
    record.expiry_date += Duration::hours(1);
    store
        .save(record.clone())
        .await
        .expect("a record can be saved");
    assert_same(
        loaded(store, record.id).await,
        &record,
        "a save is loaded as it was saved",
    );
    record.expiry_date -= Duration::minutes(90);
    store
        .save(record.clone())
        .await
        .expect("a record can be saved");
    assert_same(
        loaded(store, record.id).await,
        &record,
        "a save, unlike a touch, may shorten",
    );
    store
        .delete(record.id)
        .await
        .expect("a record can be deleted");
    assert_eq!(
        loaded(store, record.id).await,
        None,
        "a deleted record is gone"
    );
    store
        .delete(record.id)
        .await
        .expect("deleting twice is no error");
}

async fn creates_no_duplicate<R, S: StoreOf<R>>(store: &S) {
    let first = created(store, Duration::hours(1)).await;
    let mut second = Record {
        data: HashMap::new(),
        ..first.clone()
    };
    store
        .create(&mut second)
        .await
        .expect("a record can be created");
    assert_ne!(first.id, second.id, "an id that is taken is replaced");
    assert_same(
        loaded(store, first.id).await,
        &first,
        "the first record is untouched",
    );
    assert_same(
        loaded(store, second.id).await,
        &second,
        "the second record has its own id",
    );
}

async fn forgets_what_has_expired<R, S: Touch + StoreOf<R>>(store: &S) {
    let mut record = created(store, Duration::hours(1)).await;
    record.expiry_date = now() - Duration::seconds(1);
    store
        .save(record.clone())
        .await
        .expect("a record can be saved");
    assert_eq!(
        loaded(store, record.id).await,
        None,
        "an expired record is gone"
    );
    let expiry = now() + Duration::hours(1);
    assert_eq!(
        touch(store, record.id, until(expiry), expiry).await,
        Touched::Gone,
        "a touch revives nothing"
    );
    assert_eq!(
        loaded(store, record.id).await,
        None,
        "an expired record stays gone"
    );
}

/// Whatever expires by then.
fn until(time: OffsetDateTime) -> RangeInclusive<OffsetDateTime> {
    OffsetDateTime::UNIX_EPOCH..=time
}

async fn touch<S: Touch>(
    store: &S,
    id: SessionId,
    due: RangeInclusive<OffsetDateTime>,
    expiry: OffsetDateTime,
) -> Touched {
    store
        .touch(id, due, expiry)
        .await
        .expect("a record can be touched")
}

async fn a_touch_moves_the_expiry_alone<R, S: Touch + StoreOf<R>>(store: &S) {
    let mut record = created(store, Duration::hours(1)).await;
    for hours in [2, 30 * 24] {
        let expiry = now() + Duration::hours(hours);
        assert_eq!(
            touch(store, record.id, until(expiry), expiry).await,
            Touched::Done
        );
        record.expiry_date = expiry;
        assert_same(
            loaded(store, record.id).await,
            &record,
            "load reports the new expiry, and the same data",
        );
    }
}

async fn a_touch_is_conditional<R, S: Touch + StoreOf<R>>(store: &S) {
    let record = created(store, Duration::hours(1)).await;
    let (id, current) = (record.id, record.expiry_date);
    let millisecond = Duration::milliseconds(1);
    let later = current + Duration::hours(1);
    assert_eq!(
        touch(store, id, until(current - millisecond), later).await,
        Touched::NotDue,
        "it expires after `due`"
    );
    assert_eq!(
        touch(store, id, current + millisecond..=later, later).await,
        Touched::Shortened,
        "it expires before `due`"
    );
    assert_eq!(
        touch(store, id, until(later), current - millisecond).await,
        Touched::NotDue,
        "a touch never shortens"
    );
    assert_eq!(
        touch(store, id, until(later), current).await,
        Touched::NotDue,
        "a touch that changes nothing is not due"
    );
    assert_same(
        loaded(store, id).await,
        &record,
        "what is not due is left alone",
    );
    assert_eq!(
        touch(store, id, until(current), later).await,
        Touched::Done,
        "it expires just at the end of `due`"
    );
    assert_eq!(
        touch(store, id, until(current), later + millisecond).await,
        Touched::NotDue,
        "it has been extended"
    );

    let unknown = new_id();
    assert_eq!(
        touch(store, unknown, until(later), later).await,
        Touched::Gone,
        "there is no such record"
    );
    assert_eq!(loaded(store, unknown).await, None, "a touch never creates");
    let last = later + millisecond;
    assert_eq!(
        touch(store, id, later..=last, last).await,
        Touched::Done,
        "it expires just at the beginning of `due`"
    );
    store.delete(id).await.expect("a record can be deleted");
    assert_eq!(
        touch(store, id, until(last), last).await,
        Touched::Gone,
        "it was deleted"
    );
    assert_eq!(loaded(store, id).await, None, "a touch brings nothing back");
}

async fn a_save_does_not_bring_back_what_is_gone<R, S: StoreOf<R>>(store: &S) {
    let record = created(store, Duration::hours(1)).await;
    store
        .delete(record.id)
        .await
        .expect("a record can be deleted");
    store
        .save(record.clone())
        .await
        .expect("saving a record that is gone is no error");
    assert_eq!(
        loaded(store, record.id).await,
        None,
        "a save brings nothing back"
    );
}

/// How often each race is run, and how many take part.
const ROUNDS: usize = 10;
const RACERS: usize = 16;

async fn of_racing_touches_one_is_done<R, S: Touch + StoreOf<R> + Clone>(store: &S) {
    for _ in 0..ROUNDS {
        let record = created(store, Duration::hours(1)).await;
        let mut racers = JoinSet::new();
        for racer in 0..RACERS {
            let (store, id, current) = (store.clone(), record.id, record.expiry_date);
            // Each a little later than the one before, as racing requests are.
            let expiry = current
                + Duration::hours(1)
                + Duration::milliseconds(i64::try_from(racer).unwrap_or(0));
            racers.spawn(async move { touch(&store, id, current..=current, expiry).await });
        }
        let results = racers.join_all().await;
        let count = |touched| results.iter().filter(|result| **result == touched).count();
        let not_done = count(Touched::NotDue) + count(Touched::Busy);
        assert_eq!(
            (count(Touched::Done), not_done),
            (1, RACERS - 1),
            "of racing touches one is done"
        );
    }
}

async fn a_touch_loses_no_racing_save<R, S: Touch + StoreOf<R> + Clone>(store: &S) {
    for round in 0..ROUNDS {
        let record = created(store, Duration::hours(1)).await;
        let mut changed = record.clone();
        changed.data.insert("changed".into(), json!(round));
        let (toucher, id, current) = (store.clone(), record.id, record.expiry_date);
        let touching = tokio::spawn(async move {
            touch(&toucher, id, until(current), current + Duration::hours(1)).await;
        });
        store
            .save(changed.clone())
            .await
            .expect("a record can be saved");
        touching.await.expect("a touch does not panic");
        let after = loaded(store, record.id)
            .await
            .expect("the record is still there");
        assert_eq!(after.data, changed.data, "a touch loses no racing save");
    }
}

async fn a_touch_undoes_no_racing_delete<R, S: Touch + StoreOf<R> + Clone>(store: &S) {
    for _ in 0..ROUNDS {
        let record = created(store, Duration::hours(1)).await;
        let (toucher, id, current) = (store.clone(), record.id, record.expiry_date);
        let touching = tokio::spawn(async move {
            touch(&toucher, id, until(current), current + Duration::hours(1)).await;
        });
        store
            .delete(record.id)
            .await
            .expect("a record can be deleted");
        touching.await.expect("a touch does not panic");
        assert_eq!(
            loaded(store, record.id).await,
            None,
            "a touch undoes no racing delete"
        );
    }
}
