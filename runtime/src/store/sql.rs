//! What the SQL stores have in common: upstream's table, and statements that each database's file writes.
//!
//! Upstream keeps a second copy of the expiry inside the record. Only the column counts there, as here; a touch leaves
//! the copy behind, and a load reports the column.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use super::{
    encoded,
    placement::Placement,
    release::{Record, RecordRef, SessionId, StoreError},
    touch::{EncodedLoad, FirstTouch, TRIES, Touched},
};
use crate::{events, schedule::Millis, session::sealed::Release};

/// A pool of connections of either release of sqlx.
pub trait Pool: Clone + fmt::Debug + Send + Sync + 'static {
    /// sqlx's.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Runs a statement, and answers how many rows it has changed.
    fn execute(
        &self,
        statement: &Arc<str>,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// Runs a query of an integer and bytes, of which one row is wanted.
    fn row(
        &self,
        query: &Arc<str>,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<(i64, Vec<u8>)>, Self::Error>> + Send;

    /// The same, of all rows.
    fn rows(
        &self,
        query: &Arc<str>,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<(i64, Vec<u8>)>, Self::Error>> + Send;

    /// What an error means to a store.
    fn kind(error: &Self::Error) -> ErrorKind;
}

/// What a statement is given.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Milliseconds since 1970.
    Time(i64),
}

impl Value<'_> {
    pub(super) fn time(time: impl Into<Millis>) -> Self {
        Self::Time(time.into().into())
    }
}

/// What an error of the database means to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is a row with this id, or such a table, schema or type.
    Taken,
    /// Another transaction has changed the row meanwhile.
    Conflict,
    /// Another transaction holds the row, longer than the statement may wait.
    Locked,
    /// There is no such table.
    NoTable,
    /// The server does not know this form of statement.
    Syntax,
    Other,
}

/// The statements that are alike in all databases but for their words. Each takes what is named, in this order.
pub(super) struct Statements {
    /// id → when it expires, data; of a live row.
    pub(super) load: Arc<str>,
    /// What a load says of when it expires.
    pub(super) expiry: fn(i64) -> Millis,
    /// id, data, expiry. Changes nothing, or fails with [`ErrorKind::Taken`], if there is such a row.
    pub(super) create: Arc<str>,
    /// data, expiry, id; of a live row.
    pub(super) update: Arc<str>,
    /// The same, of a row that keeps its expiry if that is later.
    pub(super) update_passively: Arc<str>,
    /// data, expiry, id, data as it was; of a live row.
    pub(super) replace: Arc<str>,
    /// id.
    pub(super) delete: Arc<str>,
    /// The greatest id so far → whether it has ended, id; the next [`PAGE`] rows by id.
    pub(super) page: Arc<str>,
    /// [`AT_ONCE`] ids. Deletes the rows that have ended.
    pub(super) delete_ended: Arc<str>,
}

/// Why a touch has changed nothing of a row that is there.
pub(super) const NOT_DUE: i64 = 0;
pub(super) const BUSY: i64 = 1;
pub(super) const SHORTENED: i64 = 2;

/// How many rows a sweep looks at in one query. It locks none of them.
pub(super) const PAGE: usize = 1_000;
/// How many rows a sweep deletes in one statement: locks are short.
pub(super) const AT_ONCE: usize = 100;

/// Sessions in a table of upstream's form.
#[derive(Clone)]
pub(super) struct Table<P> {
    pub(super) pool: P,
    /// As it stands in statements.
    pub(super) name: Arc<str>,
    statements: Arc<Statements>,
    /// Which store it is.
    store: &'static str,
    pub(super) placement: Placement,
}

impl<P: Pool> Table<P> {
    pub(super) fn new(pool: P, store: &'static str, statements: Statements, name: String) -> Self {
        Self {
            pool,
            name: name.into(),
            statements: Arc::new(statements),
            store,
            placement: Placement::default(),
        }
    }

    /// An error as tower-sessions has it.
    #[allow(clippy::needless_pass_by_value)] // As `map_err` passes it.
    pub(super) fn error(&self, error: P::Error) -> StoreError {
        StoreError::Backend(match P::kind(&error) {
            ErrorKind::NoTable => format!(
                "there is no table {}: call `{}::migrate` before the application serves requests",
                self.name, self.store
            ),
            _ => error.to_string(),
        })
    }

    pub(super) async fn create<R: Release>(&self, record: &mut Record) -> Result<(), StoreError> {
        loop {
            let data = encoded::write(record.as_ref())?;
            let values = [
                Value::Text(&record.id.to_string()),
                Value::Bytes(&data),
                Value::time(record.expiry_date),
            ];
            match self.write(&self.statements.create, &values).await {
                Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(error) if P::kind(&error) == ErrorKind::Taken => {}
                Err(error) => return Err(self.error(error)),
            }
            record.id = SessionId(R::random_id());
        }
    }

    pub(super) async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        self.save_by(&self.statements.update, record).await
    }

    pub(super) async fn save_passively(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        self.save_by(&self.statements.update_passively, record)
            .await
    }

    async fn save_by(&self, update: &Arc<str>, record: RecordRef<'_>) -> Result<(), StoreError> {
        let data = encoded::write(record)?;
        let values = [
            Value::Bytes(&data),
            Value::time(record.expiry_date),
            Value::Text(&record.id.to_string()),
        ];
        let updated = self.write(update, &values).await;
        updated.map(drop).map_err(|error| self.error(error))
    }

    /// A load that no [`LifetimeLayer`](crate::LifetimeLayer) asks for.
    pub(super) async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        self.placement.loads_for_another_layer(self.store);
        let row = self.get(id).await?;
        row.map(|(expiry, data)| encoded::read(&data, Some(expiry.into())))
            .transpose()
    }

    pub(super) async fn load_encoded(&self, id: SessionId) -> Result<EncodedLoad, StoreError> {
        let row = self.get(id).await?;
        Ok(row.map_or(EncodedLoad::Absent, |(expiry, bytes)| {
            let expiry_date = Some(expiry.into());
            EncodedLoad::Found { bytes, expiry_date }
        }))
    }

    pub(super) async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        let id = id.to_string();
        let deleted = self
            .write(&self.statements.delete, &[Value::Text(&id)])
            .await;
        deleted.map(drop).map_err(|error| self.error(error))
    }

    pub(super) async fn touch_first(&self, touch: &FirstTouch) -> Result<Touched, StoreError> {
        // Somebody else may write the session between its load and its replacement, or have its row locked.
        for _ in 0..TRIES {
            let Some((expiry, data)) = self.get(touch.id).await? else {
                return Ok(Touched::Gone);
            };
            let record = match encoded::touched_first(&data, Some(expiry.into()), touch)? {
                Ok(record) => record,
                Err(touched) => return Ok(touched),
            };
            let values = [
                Value::Bytes(&encoded::write(record.as_ref())?),
                Value::time(touch.expiry),
                Value::Text(&touch.id.to_string()),
                Value::Bytes(&data),
            ];
            let replaced = self.write(&self.statements.replace, &values).await;
            if replaced.map_err(|error| self.error(error))? != 0 {
                return Ok(Touched::Done);
            }
        }
        Ok(Touched::Busy)
    }

    /// Runs a statement that other transactions may make fail, until it does not.
    pub(super) async fn write(
        &self,
        statement: &Arc<str>,
        values: &[Value<'_>],
    ) -> Result<u64, P::Error> {
        let mut tries = 1;
        loop {
            match self.pool.execute(statement, values).await {
                Err(error) if P::kind(&error) == ErrorKind::Conflict && tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    /// Runs a touch, and asks by `why_not`, of a row that is there, why it has changed nothing, if so.
    #[cfg(any(feature = "_mysql", feature = "_sqlite"))]
    pub(super) async fn touch(
        &self,
        statement: &Arc<str>,
        values: &[Value<'_>],
        why_not: &Arc<str>,
        row: &[Value<'_>],
    ) -> Result<Touched, P::Error> {
        if self.pool.execute(statement, values).await? != 0 {
            return Ok(Touched::Done);
        }
        Ok(match self.pool.row(why_not, row).await? {
            None => Touched::Gone,
            Some((NOT_DUE, _)) => Touched::NotDue,
            Some((SHORTENED, _)) => Touched::Shortened,
            Some(_) => Touched::Busy,
        })
    }

    /// When a live row expires, and its data.
    async fn get(&self, id: SessionId) -> Result<Option<(Millis, Vec<u8>)>, StoreError> {
        let id = id.to_string();
        let row = self
            .pool
            .row(&self.statements.load, &[Value::Text(&id)])
            .await
            .map_err(|error| self.error(error))?;
        Ok(row.map(|(expiry, data)| ((self.statements.expiry)(expiry), data)))
    }

    /// Deletes the rows that have ended, a page by id after the other. Answers how many.
    pub(super) async fn delete_expired(&self) -> Result<u64, P::Error> {
        let mut deleted = 0;
        let mut last = String::new();
        loop {
            let page = self
                .pool
                .rows(&self.statements.page, &[Value::Text(&last)])
                .await?;
            let is_last = page.len() < PAGE;
            let mut ended = Vec::new();
            for (has_ended, id) in page {
                last = String::from_utf8_lossy(&id).into_owned();
                if has_ended != 0 {
                    ended.push(last.clone());
                }
            }
            for ids in ended.chunks(AT_ONCE) {
                // The same statement for fewer ids: the last one again.
                let filled = (ids.iter()).chain(std::iter::repeat(&ids[ids.len() - 1]));
                let values: Vec<_> = filled.take(AT_ONCE).map(|id| Value::Text(id)).collect();
                deleted += self.write(&self.statements.delete_ended, &values).await?;
            }
            if is_last {
                return Ok(deleted);
            }
        }
    }

    /// The same every `period`, but for a tenth more or less.
    pub(super) async fn continuously_delete_expired(self, period: Duration) -> ! {
        // The first time anywhere in a period: servers that start together do not sweep together.
        let mut wait = period.mul_f64(random());
        loop {
            tokio::time::sleep(wait).await;
            if let Err(error) = self.delete_expired().await {
                events::sweep_failed(self.error(error));
            }
            wait = period.mul_f64(0.9 + 0.2 * random());
        }
    }
}

/// From 0 to 1.
fn random() -> f64 {
    let number = u32::try_from(RandomState::new().hash_one(0) >> 32);
    number.map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

/// Without its statements, which are long: the table's name says what is in them.
impl<P: Pool> fmt::Debug for Table<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.store)
            .field("pool", &self.pool)
            .field("table", &self.name)
            .finish_non_exhaustive()
    }
}

/// The numbered parameters of [`Statements::delete_ended`].
pub(super) fn parameters(parameter: impl Fn(usize) -> String) -> String {
    (1..=AT_ONCE).map(parameter).collect::<Vec<_>>().join(", ")
}

/// Whether a name needs no more than quotes in a statement.
pub(super) fn checked_name<'a>(kind: &str, name: &'a str) -> Result<&'a str, String> {
    let is_letter = |c: char| c.is_alphabetic() || c == '_';
    let mut characters = name.chars();
    let is_name = characters.next().is_some_and(is_letter)
        && characters.all(|c| is_letter(c) || c.is_numeric() || c == '$');
    is_name.then_some(name).ok_or_else(|| {
        format!(
            "`{name}` can't be a {kind}'s name: it must begin with a letter or an underscore, and have only letters, digits, \
             underscores and dollar signs"
        )
    })
}

/// What every SQL store is beside what its own file says of it: `$store` has a `table` and a `touch_row`.
macro_rules! sql_store {
    ($store:ident, $pool:ident) => {
        impl<P: $pool> $store<P> {
            /// Deletes the sessions that have ended, and returns how many. It goes through the table by id, a thousand rows at a
            /// time, and holds no lock for longer than it takes to delete a hundred.
            ///
            /// # Errors
            /// If the database can't be reached or refuses.
            pub async fn delete_expired(&self) -> Result<u64, P::Error> {
                self.table.delete_expired().await
            }

            /// Does that every `period`, a tenth more or less, so that several servers do not do it at the same time. It does
            /// not return: an error is reported as an event, and the next period tries again.
            ///
            /// # Errors
            /// None. It has the type of tower-sessions' `ExpiredDeletion::continuously_delete_expired`.
            pub async fn continuously_delete_expired(
                self,
                period: std::time::Duration,
            ) -> Result<(), P::Error> {
                self.table.continuously_delete_expired(period).await
            }
        }

        impl<P: $pool, R: crate::session::sealed::Release> OwnStore<R> for $store<P> {
            async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
                self.table.create::<R>(record).await
            }

            async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
                self.table.save(record).await
            }

            async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
                self.table.load(id).await
            }

            async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
                self.table.delete(id).await
            }
        }

        impl<P: $pool> Touch for $store<P> {
            async fn touch(
                &self,
                id: SessionId,
                due: std::ops::RangeInclusive<OffsetDateTime>,
                expiry: OffsetDateTime,
            ) -> Result<Touched, BoxError> {
                let id = id.to_string();
                let (from, to) = due.into_inner();
                match self.touch_row(&id, [from, to, expiry].map(Value::time)).await {
                    Ok(touched) => Ok(touched),
                    Err(error) if matches!(P::kind(&error), ErrorKind::Conflict | ErrorKind::Locked) => Ok(Touched::Busy),
                    Err(error) => Err(self.table.error(error).into()),
                }
            }

            fn latest_expiry(&self) -> OffsetDateTime {
                LATEST.into()
            }

            async fn load_encoded(&self, id: SessionId) -> Result<EncodedLoad, StoreError> {
                self.table.load_encoded(id).await
            }

            async fn touch_first(&self, touch: FirstTouch) -> Result<Option<Touched>, BoxError> {
                Ok(Some(self.table.touch_first(&touch).await?))
            }

            async fn save_passively(&self, record: &Record) -> Result<Option<()>, StoreError> {
                self.table.save_passively(record.as_ref()).await.map(Some)
            }

            fn is_in_lifetime_layer(&self) {
                self.table.placement.is_in_lifetime_layer();
            }
        }

        impl<P: $pool> fmt::Debug for $store<P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.table.fmt(f)
            }
        }

        macro_rules! of_release {
            ($release:ident, $tower_sessions:ident) => {
                session_store!($release, $tower_sessions, [P] $store<P> where [P: $pool]);

                #[async_trait::async_trait]
                impl<P: $pool> $tower_sessions::ExpiredDeletion for $store<P> {
                    async fn delete_expired(&self) -> $tower_sessions::session_store::Result<()> {
                        let deleted = self.table.delete_expired().await;
                        deleted.map_err(|error| self.table.error(error))?;
                        Ok(())
                    }
                }
            };
        }

        for_each_release!(of_release);
    };
}
pub(super) use sql_store;

/// The stores whose table lies in a schema: names are quoted by `$quote`. `$store` is made by its `in_table`, and keeps its
/// options when it is `moved_to` another.
#[cfg(any(feature = "_mysql", feature = "_postgres"))]
macro_rules! in_a_schema {
    ($store:ident, $pool:ident, $quote:literal) => {
        impl<P: $pool> $store<P> {
            /// Sessions in the table `session` of the schema `tower_sessions`.
            #[must_use]
            pub fn new(pool: P) -> Self {
                Self::in_table(pool, Self::name("tower_sessions", "session"))
            }

            /// Sessions in another table.
            ///
            /// # Errors
            /// If one of the names is not made of letters, digits, underscores and dollar signs, or begins with a digit or a
            /// dollar sign.
            pub fn with_table_name(
                self,
                schema: impl AsRef<str>,
                table: impl AsRef<str>,
            ) -> Result<Self, String> {
                let schema = checked_name("schema", schema.as_ref())?;
                let table = checked_name("table", table.as_ref())?;
                Ok(self.moved_to(Self::name(schema, table)))
            }

            fn name(schema: &str, table: &str) -> String {
                let quote = $quote;
                format!("{quote}{schema}{quote}.{quote}{table}{quote}")
            }
        }
    };
}
#[cfg(any(feature = "_mysql", feature = "_postgres"))]
pub(super) use in_a_schema;

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Mutex};

    use tokio::time::Instant;

    use super::*;

    /// Remembers when it is swept. It has no rows.
    #[derive(Clone, Debug, Default)]
    struct Swept(Arc<Mutex<Vec<Instant>>>);

    impl Pool for Swept {
        type Error = Infallible;

        async fn execute(&self, _: &Arc<str>, _: &[Value<'_>]) -> Result<u64, Infallible> {
            Ok(0)
        }

        async fn row(
            &self,
            _: &Arc<str>,
            _: &[Value<'_>],
        ) -> Result<Option<(i64, Vec<u8>)>, Infallible> {
            Ok(None)
        }

        async fn rows(
            &self,
            _: &Arc<str>,
            _: &[Value<'_>],
        ) -> Result<Vec<(i64, Vec<u8>)>, Infallible> {
            self.0.lock().unwrap().push(Instant::now());
            Ok(Vec::new())
        }

        fn kind(_: &Infallible) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sweeps_of_servers_that_start_together_do_not_stay_together() {
        const PERIOD: Duration = Duration::from_secs(3600);
        let statement = || Arc::from("");
        let statements = || Statements {
            load: statement(),
            expiry: Millis::clamp,
            create: statement(),
            update: statement(),
            update_passively: statement(),
            replace: statement(),
            delete: statement(),
            page: statement(),
            delete_ended: statement(),
        };
        let began = Instant::now();
        let mut firsts = Vec::new();
        for _ in 0..10 {
            let swept = Swept::default();
            let table = Table::new(swept.clone(), "Store", statements(), String::new());
            tokio::spawn(table.continuously_delete_expired(PERIOD));
            firsts.push(swept);
        }
        tokio::time::sleep(PERIOD * 100).await;
        let mut first_waits = Vec::new();
        for swept in firsts {
            let at = swept.0.lock().unwrap();
            assert!((90..=112).contains(&at.len()), "{}", at.len());
            first_waits.push(at[0] - began);
            assert!(first_waits.iter().all(|wait| *wait <= PERIOD));
            for pair in at.windows(2) {
                let wait = (pair[1] - pair[0]).as_secs_f64() / PERIOD.as_secs_f64();
                assert!((0.89..=1.11).contains(&wait), "{wait}");
            }
        }
        let earliest = first_waits.iter().min().unwrap();
        let latest = first_waits.iter().max().unwrap();
        assert!(*latest > *earliest + PERIOD / 10, "{first_waits:?}");
    }
}
