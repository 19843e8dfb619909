//! One connection, and what is done over it. Every piece of work is a transaction that brings its
//! own settings along, so that nothing depends on the session: a pooler may hand each transaction
//! to another one. For the same reason no statement is prepared by name.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Row};

use crate::postgres::connect::address::CONNECT_TIME;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::CONNECTIONS_MAX;
use crate::postgres::connect::tls::{Connector, Tls};
use crate::postgres::fleet::notify::Notifications;

/// How much longer we wait than the server works: it ends first, and says why.
const MARGIN: Duration = Duration::from_secs(2);
/// How long the server waits for us in the middle of a transaction, which holds locks: we may be
/// frozen, or gone without a word.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Parameters of a statement.
pub(crate) type Params<'p> = &'p [(&'p (dyn ToSql + Sync), Type)];

/// `params![value => TYPE, …]`: what a statement is given, with the types, so that it takes one message there and back.
macro_rules! params {
    ($($value:expr => $type:ident),* $(,)?) => {
        &[$((&$value as &(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type::$type)),*]
    };
}
pub(crate) use params;

/// The work of one transaction.
#[derive(Clone, Copy)]
pub(crate) enum Work<'w> {
    /// This statement.
    Statement(&'w str),
    /// The function of that name, which is given how its commit is to be after all else, and brings
    /// along its other settings.
    Function(&'w str),
}

impl<'w> From<&'w str> for Work<'w> {
    fn from(sql: &'w str) -> Self {
        Self::Statement(sql)
    }
}

/// How every transaction begins.
#[derive(Debug)]
pub(crate) struct Begin {
    text: String,
    schema: String,
    synchronous_commit: String,
    /// How long one statement may take.
    time: Duration,
}

impl Begin {
    /// In this schema, with commits as durable as they were when we looked.
    pub(crate) fn new(schema: &str, synchronous_commit: &str, time: Duration) -> Self {
        // It may be a word of the language; it holds no quotation mark.
        let schema = format!("\"{schema}\"");
        Self {
            text: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
                 SET LOCAL search_path TO {schema}, pg_catalog;
                 SET LOCAL synchronous_commit TO {synchronous_commit};
                 SET LOCAL jit TO off;
                 SET LOCAL statement_timeout TO {};
                 SET LOCAL idle_in_transaction_session_timeout TO {}",
                time.as_millis(),
                IDLE_MAX.as_millis(),
            ),
            schema,
            synchronous_commit: synchronous_commit.to_owned(),
            time,
        }
    }

    /// A call of this function with so many values.
    fn call(&self, function: &str, values: usize) -> String {
        let mut given: Vec<String> = (1..=values).map(|value| format!("${value}")).collect();
        given.push(format!("'{}'", self.synchronous_commit));
        format!(
            "SELECT * FROM {}.{function}({})",
            self.schema,
            given.join(", ")
        )
    }

    /// With plans for a few rows of large tables, whatever the statistics say.
    pub(crate) fn by_index(mut self) -> Self {
        self.text.push_str(
            "; SET LOCAL enable_seqscan TO off; SET LOCAL enable_bitmapscan TO off;
               SET LOCAL enable_hashjoin TO off; SET LOCAL enable_mergejoin TO off",
        );
        self
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct PgConnection {
    client: Client,
    driver: JoinHandle<()>,
}

impl PgConnection {
    /// Connects. `notifications` gets what is told over this connection.
    pub(crate) async fn open(
        config: &Config,
        tls: Option<Arc<Tls>>,
        notifications: Option<Arc<Notifications>>,
    ) -> Result<Self, Failure> {
        let connected = async {
            if let Some(tls) = tls {
                let (client, connection) = config.connect(Connector(tls)).await?;
                return Ok((client, tokio::spawn(drive(connection, notifications))));
            }
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            Ok::<_, tokio_postgres::Error>((client, tokio::spawn(drive(connection, notifications))))
        };
        match timeout(CONNECT_TIME + MARGIN, connected).await {
            Ok(Ok((client, driver))) => Ok(Self { client, driver }),
            Ok(Err(error)) => Err(Failure::from(error)),
            // The time for the connection alone is shorter.
            Err(_) => Err(no_session()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// As [`alone`](Self::alone), for the first statement of a connection: a pooler may have taken
    /// the connection and have no session of the server for it.
    pub(crate) async fn first(&self, sql: &str) -> Result<Vec<Row>, Failure> {
        match timeout(CONNECT_TIME, self.client.query_typed(sql, &[])).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(no_session()),
        }
    }

    /// A statement that needs no settings and changes nothing.
    pub(crate) async fn alone(&self, time: Duration, sql: &str) -> Result<Vec<Row>, Failure> {
        in_time(time, self.client.query_typed(sql, &[])).await
    }

    /// This as one transaction. All of it is sent at once: it takes one round, and we cannot be frozen within.
    pub(crate) async fn once(
        &self,
        begin: &Begin,
        work: Work<'_>,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let sql = match work {
            Work::Statement(sql) => sql,
            Work::Function(name) => {
                let call = begin.call(name, params.len());
                return in_time(begin.time, self.client.query_typed(&call, params)).await;
            }
        };
        let transaction = async {
            let (opened, rows, committed) = tokio::join!(
                biased;
                self.client.batch_execute(&begin.text),
                self.client.query_typed(sql, params),
                self.client.batch_execute("COMMIT"),
            );
            opened?;
            // Where this failed, the `COMMIT` took it back and says nothing of it.
            let rows = rows?;
            committed?;
            Ok(rows)
        };
        in_time(begin.time, transaction).await
    }

    /// Begins a transaction of several rounds.
    pub(crate) async fn begin(&self, begin: &Begin) -> Result<(), Failure> {
        in_time(begin.time, self.client.batch_execute(&begin.text)).await
    }

    /// Several statements, without values.
    pub(crate) async fn batch(&self, time: Duration, sql: &str) -> Result<(), Failure> {
        in_time(time, self.client.batch_execute(sql)).await
    }

    /// A statement within it.
    pub(crate) async fn query(
        &self,
        begin: &Begin,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Failure> {
        in_time(begin.time, self.client.query_typed(sql, params)).await
    }

    /// Ends it.
    pub(crate) async fn commit(&self, begin: &Begin) -> Result<(), Failure> {
        in_time(begin.time, self.client.batch_execute("COMMIT")).await
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&mut self) {
        drop((&mut self.driver).await);
    }

    /// Asks no more, and waits until the server has done what it was asked and the connection has ended.
    pub(crate) async fn abandon(self) {
        let Self { client, driver } = self;
        drop(client);
        drop(driver.await);
    }

    /// Says goodbye to the server, and waits until that is done or takes too long.
    pub(crate) async fn close(self) {
        let Self { client, driver } = self;
        drop(client);
        drop(timeout(MARGIN, driver).await);
    }
}

/// Moves the bytes until the connection ends. What it ends with is told to whoever waits for an answer.
async fn drive<S, T>(mut connection: Connection<S, T>, notifications: Option<Arc<Notifications>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(told), Some(notifications)) = (message, &notifications) {
            notifications.hear(told.payload());
        }
    }
}

/// The connection was taken, and nothing came back over it.
fn no_session() -> Failure {
    Failure::unavailable(format!(
        "the connection got no session within {} s: the server hangs, or a pooler has no free session; use a pooler in transaction mode, or allow {CONNECTIONS_MAX} sessions for each gateway",
        CONNECT_TIME.as_secs()
    ))
}

async fn in_time<T>(
    time: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match timeout(time + MARGIN, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failure::unavailable(format!(
            "the database did not answer for {} s",
            (time + MARGIN).as_secs()
        ))),
    }
}
