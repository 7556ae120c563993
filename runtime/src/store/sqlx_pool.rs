//! sqlx's pools, of each of its releases that this crate knows: only calls and conversions.

use std::sync::Arc;

use super::sql::{ErrorKind, Pool, Value};

/// One database's pool in one release of sqlx: how a query is made of its text, how a time is bound, how an
/// integer is got, and what an error means.
macro_rules! pool {
    (
        $feature:literal, $sqlx:ident::$pool:ident,
        query: $query:path, time: $time:path, integer: $integer:ident, kind: |$error:ident| $kind:expr
    ) => {
        #[cfg(feature = $feature)]
        impl Pool for $sqlx::$pool {
            type Error = $sqlx::Error;

            async fn execute(
                &self,
                statement: &Arc<str>,
                values: &[Value<'_>],
            ) -> Result<u64, Self::Error> {
                let done = pool!(@ bind $query(statement), values, $time).execute(self);
                Ok(done.await?.rows_affected())
            }

            async fn row(
                &self,
                query: &Arc<str>,
                values: &[Value<'_>],
            ) -> Result<Option<(i64, Vec<u8>)>, Self::Error> {
                let row = pool!(@ bind $query(query), values, $time).fetch_optional(self);
                row.await?.map(|row| pool!(@ pair $sqlx, row, $integer)).transpose()
            }

            async fn rows(
                &self,
                query: &Arc<str>,
                values: &[Value<'_>],
            ) -> Result<Vec<(i64, Vec<u8>)>, Self::Error> {
                let rows = pool!(@ bind $query(query), values, $time).fetch_all(self);
                let rows = rows.await?.into_iter();
                rows.map(|row| pool!(@ pair $sqlx, row, $integer)).collect()
            }

            fn kind(error: &Self::Error) -> ErrorKind {
                match error.as_database_error() {
                    Some($error) if $error.is_unique_violation() => ErrorKind::Taken,
                    Some($error) => $kind,
                    None => ErrorKind::Other,
                }
            }
        }
    };
    (@ pair $sqlx:ident, $row:ident, $integer:ident) => {{
        use $sqlx::Row as _;

        let (integer, bytes) = ($row.$integer(0), $row.try_get(1));
        integer.and_then(|integer| Ok((integer, bytes?)))
    }};
    (@ bind $query:expr, $values:ident, $time:path) => {{
        let mut query = $query;
        for value in $values {
            query = match *value {
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::Time(milliseconds) => query.bind($time(milliseconds)),
            };
        }
        query
    }};
}

macro_rules! databases {
    ($sqlx:ident, $query:path, $sqlite:literal, $postgres:literal, $mysql:literal) => {
        pool!(
            $sqlite, $sqlx::SqlitePool,
            query: $query, time: super::sqlite::fixed_width, integer: try_get,
            kind: |error| if error.message().starts_with("no such table") {
                ErrorKind::NoTable
            } else {
                ErrorKind::Other
            }
        );
        pool!(
            $postgres, $sqlx::PgPool,
            query: $query, time: std::convert::identity,
            // It sends a time as one.
            integer: try_get_unchecked,
            // Appendix A of its documentation.
            kind: |error| match error.code().as_deref() {
                Some("40001" | "40P01") => ErrorKind::Conflict,
                Some("42P01" | "3F000") => ErrorKind::NoTable,
                Some("42P06" | "42P07" | "42710") => ErrorKind::Taken,
                _ => ErrorKind::Other,
            }
        );
        pool!(
            $mysql, $sqlx::MySqlPool,
            query: $query, time: super::mysql::in_range, integer: try_get,
            // A deadlock, and MariaDB's `innodb_snapshot_isolation`; a lock that took too long; an unknown table or schema.
            kind: |error| match error.try_downcast_ref().map($sqlx::mysql::MySqlDatabaseError::number) {
                Some(1213 | 1020) => ErrorKind::Conflict,
                Some(1205) => ErrorKind::Locked,
                Some(1146 | 1049) => ErrorKind::NoTable,
                Some(1064) => ErrorKind::Syntax,
                _ => ErrorKind::Other,
            }
        );
    };
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
fn query_0_8<DB: sqlx::Database>(
    text: &Arc<str>,
) -> sqlx::query::Query<'_, DB, <DB as sqlx::Database>::Arguments<'_>> {
    sqlx::query(text)
}

#[cfg(any(
    feature = "sqlite-sqlx-0_9",
    feature = "postgres-sqlx-0_9",
    feature = "mysql-sqlx-0_9"
))]
fn query_0_9<'a, DB: sqlx_0_9::Database>(
    text: &Arc<str>,
) -> sqlx_0_9::query::Query<'a, DB, <DB as sqlx_0_9::Database>::Arguments> {
    sqlx_0_9::query(sqlx_0_9::AssertSqlSafe(Arc::clone(text)))
}

databases!(sqlx, query_0_8, "sqlite", "postgres", "mysql");
databases!(
    sqlx_0_9,
    query_0_9,
    "sqlite-sqlx-0_9",
    "postgres-sqlx-0_9",
    "mysql-sqlx-0_9"
);
