//! A connection and its transactions. Every transaction sets its own settings, so nothing depends
//! on the session: a pooler may run each transaction in another session. For the same reason, no
//! statement is prepared by name.

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
use crate::postgres::connect::purpose::CONNECTIONS_MAX;
use crate::postgres::connect::tls::{Connector, Tls};

/// How much longer we wait than the server, so that the server times out first and gives the
/// reason.
const MARGIN: Duration = Duration::from_secs(2);
/// How long the server waits for us within a transaction, which holds locks: this process may be
/// frozen or dead.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Parameters of a statement.
pub(crate) type Params<'p> = &'p [(&'p (dyn ToSql + Sync), Type)];

/// `params![value => TYPE, …]`: the parameters of a statement with their types, so that it needs
/// only one round trip.
macro_rules! params {
    ($($value:expr => $type:ident),* $(,)?) => {
        &[$((&$value as &(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type::$type)),*]
    };
}
pub(crate) use params;

/// Receives the payload of each notification on a connection.
pub(crate) type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// The work of one transaction.
#[derive(Clone, Copy)]
pub(crate) enum Work<'w> {
    /// A statement.
    Statement(&'w str),
    /// A function with this name. Its last argument is the durability of its commit; it makes its
    /// other settings itself.
    Function(&'w str),
}

impl<'w> From<&'w str> for Work<'w> {
    fn from(sql: &'w str) -> Self {
        Self::Statement(sql)
    }
}

/// The settings at the beginning of every transaction.
#[derive(Debug)]
pub(crate) struct Begin {
    text: String,
    schema: String,
    synchronous_commit: String,
    /// Maximum duration of one statement.
    time: Duration,
}

impl Begin {
    /// Settings for this schema, with commits as durable as the server's settings were when they
    /// were read.
    pub(crate) fn new(schema: &str, synchronous_commit: &str, time: Duration) -> Self {
        // The name may be a keyword, so it is quoted; it contains no quotation mark.
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

    /// Forces plans for a few rows of large tables, whatever the statistics say.
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
    /// Connects. `listener` receives the notifications on this connection.
    pub(crate) async fn open(
        config: &Config,
        tls: Option<Arc<Tls>>,
        listener: Option<Listener>,
    ) -> Result<Self, Failure> {
        let connected = async {
            if let Some(tls) = tls {
                let (client, connection) = config.connect(Connector(tls)).await?;
                return Ok((client, tokio::spawn(drive(connection, listener))));
            }
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            Ok::<_, tokio_postgres::Error>((client, tokio::spawn(drive(connection, listener))))
        };
        match timeout(CONNECT_TIME + MARGIN, connected).await {
            Ok(Ok((client, driver))) => Ok(Self { client, driver }),
            Ok(Err(error)) => Err(Failure::from(error)),
            // The connection alone has a shorter time limit.
            Err(_) => Err(no_session()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Does the same as [`alone`](Self::alone), for the first statement of a connection: a pooler
    /// may have accepted the connection without a session of the server for it.
    pub(crate) async fn first(&self, sql: &str) -> Result<Vec<Row>, Failure> {
        match timeout(CONNECT_TIME, self.client.query_typed(sql, &[])).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(no_session()),
        }
    }

    /// Runs a statement that needs no settings and changes nothing.
    pub(crate) async fn alone(&self, time: Duration, sql: &str) -> Result<Vec<Row>, Failure> {
        in_time(time, self.client.query_typed(sql, &[])).await
    }

    /// Runs the work in one transaction. Everything is sent at once: it takes one round trip, and
    /// this process cannot freeze in the middle.
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
            // If the work failed, the `COMMIT` rolled it back without an error.
            let rows = rows?;
            committed?;
            Ok(rows)
        };
        in_time(begin.time, transaction).await
    }

    /// Begins a transaction of several round trips.
    pub(crate) async fn begin(&self, begin: &Begin) -> Result<(), Failure> {
        in_time(begin.time, self.client.batch_execute(&begin.text)).await
    }

    /// Runs several statements without parameters.
    pub(crate) async fn batch(&self, time: Duration, sql: &str) -> Result<(), Failure> {
        in_time(time, self.client.batch_execute(sql)).await
    }

    /// Runs a statement within the transaction.
    pub(crate) async fn query(
        &self,
        begin: &Begin,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Failure> {
        in_time(begin.time, self.client.query_typed(sql, params)).await
    }

    /// Commits the transaction.
    pub(crate) async fn commit(&self, begin: &Begin) -> Result<(), Failure> {
        in_time(begin.time, self.client.batch_execute("COMMIT")).await
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&mut self) {
        drop((&mut self.driver).await);
    }

    /// Sends nothing more, and waits until the server has finished and the connection has ended.
    pub(crate) async fn abandon(self) {
        let Self { client, driver } = self;
        drop(client);
        drop(driver.await);
    }

    /// Closes the connection to the server, within a time limit.
    pub(crate) async fn close(self) {
        let Self { client, driver } = self;
        drop(client);
        drop(timeout(MARGIN, driver).await);
    }
}

/// Runs the connection until it ends. Callers that wait for an answer get its error.
async fn drive<S, T>(mut connection: Connection<S, T>, listener: Option<Listener>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(told), Some(listener)) = (message, &listener) {
            listener(told.payload());
        }
    }
}

/// The connection was accepted, but got no answer.
fn no_session() -> Failure {
    Failure::unavailable(format!(
        "the connection got no session within {} s: the server hangs, or a pooler has no free \
         session; use a pooler in transaction mode, or allow {CONNECTIONS_MAX} sessions for each \
         gateway",
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
