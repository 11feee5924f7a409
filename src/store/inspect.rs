//! A look at a database that changes nothing: is the file sound, and is the event log what was written?
//!
//! Owns what "healthy" means for the truth. Refuses to repair or to migrate. `waag doctor` calls it, beside a running
//! appliance too: it reads one moment of the database as any reader does.

use std::path::Path;

use rusqlite::Connection;

use super::{
    DATABASE, Error,
    db::{check_owner, in_snapshot, open_reader},
    events::{self, Report},
    migrate,
};

/// Complaints that are named; a damaged file has thousands.
const COMPLAINTS_MAX: u32 = 3;

/// What a healthy database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Whether its tables are those of an older program, which the next start brings up to date.
    pub is_older: bool,
    /// The event log.
    pub events: Report,
}

/// Looks at the database of this data directory; `None` when there is none yet.
///
/// # Errors
/// When it cannot be read, belongs to another program or a newer one, is damaged, or its event log was altered.
pub fn inspect(dir: &Path) -> Result<Option<Inspection>, Error> {
    let path = dir.join(DATABASE);
    if !path.exists() {
        return Ok(None);
    }
    let connection = open_reader(&path)?;
    check_owner(&connection, &path)?;
    in_snapshot(&connection, |snapshot| examine(snapshot, &path)).map(Some)
}

/// Reads something from the database of this data directory, beside a running appliance too; `None` when there is none
/// yet, or it is one of an older program, whose tables are others.
///
/// # Errors
/// When it cannot be read, or belongs to another program or a newer one.
pub fn look<T, E: From<Error>>(dir: &Path, read: impl FnOnce(&Connection) -> Result<T, E>) -> Result<Option<T>, E> {
    let path = dir.join(DATABASE);
    if !path.exists() {
        return Ok(None);
    }
    let connection = open_reader(&path)?;
    check_owner(&connection, &path)?;
    if migrate::check(&connection)? < migrate::newest() {
        return Ok(None);
    }
    read(&connection).map(Some)
}

fn examine(connection: &Connection, path: &Path) -> Result<Inspection, Error> {
    let version = migrate::check(connection)?;
    let mut select = connection.prepare(&format!("PRAGMA quick_check({COMPLAINTS_MAX})"))?;
    let found = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    if found != ["ok"] {
        return Err(Error::Unsound { path: path.to_owned(), why: found.join("; ") });
    }
    let orphans = connection.prepare("PRAGMA foreign_key_check")?.exists([])?;
    if orphans {
        let why = "rows name other rows that are not there".to_owned();
        return Err(Error::Unsound { path: path.to_owned(), why });
    }
    let events = if version == 0 { Report::EMPTY } else { events::verify_chain(connection)? };
    Ok(Inspection { is_older: version < migrate::newest(), events })
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use serde_json::json;

    use super::{super::Store, *};
    use crate::store::Options;

    async fn store_with_events(dir: &Path, count: i64) -> Store {
        let store = Store::open(dir, Options::default()).await.expect("a new directory");
        store
            .db()
            .write("fill", move |tx| {
                for at_ms in 0..count {
                    events::append(tx, at_ms, "kind", "subject", &json!({ "text": "x".repeat(500) }))?;
                }
                Ok::<_, Error>(())
            })
            .await
            .expect("it commits");
        store
    }

    #[tokio::test]
    async fn a_database_is_looked_at_while_it_is_used_and_when_it_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(inspect(dir.path()).expect("nothing is no failure"), None);
        let store = store_with_events(dir.path(), 3).await;
        let found = inspect(dir.path()).expect("healthy").expect("it is there");
        assert_eq!((found.is_older, found.events.events), (false, 3));
        drop(store);
        assert_eq!(inspect(dir.path()).expect("healthy"), Some(found));
        let again = Store::open(dir.path(), Options::default()).await;
        assert!(again.is_ok(), "a look leaves nothing that is in the way");
    }

    #[tokio::test]
    async fn damage_and_alterations_are_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        drop(store_with_events(dir.path(), 200).await);
        let path = dir.path().join(DATABASE);
        let sound = fs::read(&path).expect("a file");
        let code = || inspect(dir.path()).expect_err("it is not healthy").code().name;

        let other = Connection::open(&path).expect("a database");
        other.execute_batch("DROP TRIGGER events_are_final").expect("it is there");
        other.execute("UPDATE events SET kind = 'other' WHERE seq = 7", []).expect("altered");
        drop(other);
        assert_eq!(code(), "event_chain_broken");

        let cut = sound.len() / 2;
        let mut damaged = sound.clone();
        damaged[cut..].fill(0x5a);
        fs::File::create(&path).and_then(|mut file| file.write_all(&damaged)).expect("written");
        assert_eq!(code(), "db_damaged");

        fs::write(&path, "no database, but long enough to have a header".repeat(100)).expect("written");
        assert_eq!(code(), "db_damaged");
    }
}
