//! The database: one writer, several readers.
//!
//! Owns the write connection on a thread of its own, and a pool of connections that can only read. Refuses to know
//! any table but its own bookkeeping. Transactions come in as closures and leave as results.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::error;

use super::{Durability, Error, limits, lock::DirLock, migrate};

/// Marks the file as ours: "Waag" in ASCII.
const APPLICATION_ID: i64 = 0x5761_6167;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

struct Order {
    name: &'static str,
    job: Job,
}

/// The database. Cheap to clone; closed when the last clone is gone.
#[derive(Clone)]
pub struct Db {
    writer: Arc<Writer>,
    readers: Arc<Readers>,
}

impl Db {
    /// Opens or makes the database file and brings it up to date. The lock is held until the writer has ended.
    pub(super) fn open(
        path: &Path,
        durability: Durability,
        read_connections: u32,
        lock: Option<DirLock>,
    ) -> Result<Self, Error> {
        let mut connection = open_writer(path, durability)?;
        migrate::run(&mut connection, path)?;
        let writer = Writer::start(connection, lock)?;
        let readers = Readers {
            path: path.to_owned(),
            permits: Arc::new(Semaphore::new(read_connections.max(1) as usize)),
            idle: Mutex::new(Vec::new()),
        };
        Ok(Self { writer: Arc::new(writer), readers: Arc::new(readers) })
    }

    /// Runs a closure in an immediate transaction of the one writer: committed when it returns `Ok`, rolled back when
    /// it returns `Err`. The name stands in logs.
    ///
    /// Dropping the future does not stop a transaction that was handed over.
    ///
    /// # Errors
    /// The closure's own, or the store's when the transaction cannot begin or commit.
    pub async fn write<T, E>(
        &self,
        name: &'static str,
        act: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The asker may have gone; the transaction counts all the same.
            drop(reply.send(in_transaction(connection, act)));
        });
        self.writer.send(Order { name, job }).await?;
        answer.await.map_err(|_dropped| Error::Gone { what: name })?
    }

    /// Runs a closure on a connection that can only read. All its statements see the same moment.
    ///
    /// # Errors
    /// The closure's own, or the store's when there is no connection to be had.
    pub async fn read<T, E>(&self, look: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let gone = Error::Gone { what: "read" };
        let Ok(permit) = Arc::clone(&self.readers.permits).acquire_owned().await else { return Err(gone.into()) };
        let readers = Arc::clone(&self.readers);
        let outcome = tokio::task::spawn_blocking(move || {
            let connection = readers.take()?;
            let outcome = in_snapshot(&connection, look);
            readers.give_back(connection);
            drop(permit);
            outcome
        })
        .await;
        outcome.map_err(|_panicked| E::from(gone))?
    }
}

fn in_transaction<T, E: From<Error>>(
    connection: &mut Connection,
    act: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Error::from)?;
    // An early return drops the transaction, which rolls it back.
    let value = act(&transaction)?;
    transaction.commit().map_err(Error::from)?;
    Ok(value)
}

pub(super) fn in_snapshot<T, E: From<Error>>(
    connection: &Connection,
    look: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let snapshot = connection.unchecked_transaction().map_err(Error::from)?;
    look(&snapshot)
}

struct Writer {
    queue: Option<mpsc::Sender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    fn start(mut connection: Connection, lock: Option<DirLock>) -> Result<Self, Error> {
        let (queue, mut orders) = mpsc::channel::<Order>(limits::WRITE_QUEUE);
        // A thread and not a task: SQLite blocks, and everything here happens in one order.
        let thread = thread::Builder::new()
            .name("db-writer".to_owned())
            .spawn(move || {
                while let Some(Order { name, job }) = orders.blocking_recv() {
                    // Unwinding rolled the transaction back, and its asker is told; the next one is not to blame.
                    if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
                        error!(name, "a transaction panicked and was rolled back");
                    }
                }
                drop(connection);
                drop(lock);
            })
            .map_err(|source| Error::File { act: "start the writer of", path: PathBuf::from("db"), source })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    async fn send(&self, order: Order) -> Result<(), Error> {
        let name = order.name;
        let gone = || Error::Gone { what: name };
        self.queue.as_ref().ok_or_else(gone)?.send(order).await.map_err(|_closed| gone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        // Whoever drops the last handle may open the directory again at once, so the lock must be free by then.
        // The last handle may also be one that a transaction carried: the writer cannot wait for itself.
        let thread = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id());
        if thread.is_some_and(|thread| thread.join().is_err()) {
            error!("the database writer panicked");
        }
    }
}

struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    fn take(&self) -> Result<Connection, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| open_reader(&self.path), Ok)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

fn open_writer(path: &Path, durability: Durability) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_millis(limits::BUSY_TIMEOUT_MS))?;
    own(&connection, path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    let synchronous = match durability {
        Durability::Full => "full",
        Durability::Normal => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    harden(&connection)?;
    Ok(connection)
}

pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_millis(limits::BUSY_TIMEOUT_MS))?;
    harden(&connection)?;
    Ok(connection)
}

fn harden(connection: &Connection) -> Result<(), Error> {
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

/// A new file becomes ours; a file of another program is left alone.
fn own(connection: &Connection, path: &Path) -> Result<(), Error> {
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application(connection)?, objects) {
        (0, 0) => Ok(connection.pragma_update(None, "application_id", APPLICATION_ID)?),
        _ => check_owner(connection, path),
    }
}

/// Whether the file is ours.
pub(super) fn check_owner(connection: &Connection, path: &Path) -> Result<(), Error> {
    match application(connection)? {
        APPLICATION_ID => Ok(()),
        found => Err(Error::Foreign { path: path.to_owned(), found }),
    }
}

fn application(connection: &Connection) -> Result<i64, Error> {
    Ok(connection.pragma_query_value(None, "application_id", |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Result<Db, Error> {
        Db::open(&dir.join("t.sqlite"), Durability::Normal, 2, None)
    }

    async fn facts(db: &Db) -> i64 {
        db.read(|conn| Ok::<_, Error>(conn.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))?))
            .await
            .expect("it can be read")
    }

    fn note(tx: &Transaction<'_>, key: &str) -> Result<(), Error> {
        tx.execute("INSERT INTO meta (key, value) VALUES (?1, '')", [key])?;
        Ok(())
    }

    #[tokio::test]
    async fn an_error_rolls_back_and_a_value_commits() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = open(dir.path()).expect("a new database");
        db.write("good", |tx| note(tx, "a")).await.expect("it commits");
        let failed: Result<(), Error> = db
            .write("bad", |tx| {
                note(tx, "b")?;
                Err(Error::Gone { what: "on purpose" })
            })
            .await;
        assert_eq!(failed.expect_err("it failed").code().name, "store_gone");
        assert_eq!(facts(&db).await, 1);
    }

    #[tokio::test]
    async fn a_panic_costs_only_its_own_transaction() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = open(dir.path()).expect("a new database");
        let panicked: Result<(), Error> = db
            .write("panics", |tx| {
                note(tx, "a")?;
                panic!("on purpose")
            })
            .await;
        assert!(matches!(panicked, Err(Error::Gone { what: "panics" })));
        db.write("good", |tx| note(tx, "a")).await.expect("the writer lives");
        let panicked: Result<(), Error> = db.read(|_conn| panic!("on purpose")).await;
        assert!(matches!(panicked, Err(Error::Gone { .. })));
        assert_eq!(facts(&db).await, 1);
    }

    #[tokio::test]
    async fn a_reader_cannot_write() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = open(dir.path()).expect("a new database");
        let refused =
            db.read(|conn| Ok::<_, Error>(conn.execute("DELETE FROM meta", [])?)).await.expect_err("it is read only");
        assert!(matches!(refused, Error::Sql(_)), "{refused}");
    }

    #[tokio::test]
    async fn a_transaction_may_carry_the_last_handle() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = open(dir.path()).expect("a new database");
        let carried = db.clone();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let pending = db.write("carries", move |tx| {
            gate.recv().expect_err("the sender goes without a word");
            note(tx, "a")?;
            drop(carried);
            Ok::<_, Error>(())
        });
        let mut pending = Box::pin(pending);
        // Polled once, it is in the writer's hands; then every other handle goes.
        assert!(futures::poll!(pending.as_mut()).is_pending());
        drop(pending);
        drop(db);
        drop(go);
        // The writer ends by itself and lets the file go with its work done.
        let deadline = 5_000;
        for _ in 0..deadline {
            if open_reader(&dir.path().join("t.sqlite"))
                .and_then(|conn| Ok(conn.query_row("SELECT count(*) FROM meta", [], |row| row.get::<_, i64>(0))?))
                .is_ok_and(|count| count == 1)
            {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the transaction was lost");
    }

    #[tokio::test]
    async fn a_full_database_says_so_and_goes_on_when_there_is_space() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = open(dir.path()).expect("a new database");
        let fill = |tx: &Transaction<'_>| {
            tx.execute("INSERT INTO meta (key, value) VALUES ('big', hex(randomblob(1000000)))", [])?;
            Ok::<_, Error>(())
        };
        let pages = |tx: &Transaction<'_>, most: i64| {
            tx.pragma_update(None, "max_page_count", most)?;
            Ok::<_, Error>(())
        };
        db.write("limit", move |tx| pages(tx, 1)).await.expect("a limit");
        let full = db.write("fill", fill).await.expect_err("no page is left");
        assert_eq!(full.code().name, "disk_full", "{full}");
        db.write("limit", move |tx| pages(tx, 1_000_000)).await.expect("a limit");
        db.write("fill", fill).await.expect("there is space");
    }

    #[test]
    fn garbage_and_other_peoples_files_are_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("t.sqlite");
        std::fs::write(&path, "no database, but long enough to have a header".repeat(100)).expect("a file");
        let refused = open(dir.path()).err().expect("it is garbage");
        assert_eq!(refused.code().name, "db_damaged", "{refused}");

        std::fs::remove_file(&path).expect("it is there");
        let other = Connection::open(&path).expect("a database");
        other.execute_batch("CREATE TABLE bookmarks (url TEXT)").expect("a table");
        drop(other);
        let refused = open(dir.path()).err().expect("it is not ours");
        assert_eq!(refused.code().name, "db_foreign", "{refused}");
    }
}
