//! Migrations: forward only, each in one transaction, after a snapshot of what was there.

use std::{fs, path::Path};

use rusqlite::{Connection, TransactionBehavior, params};
use tracing::info;

use super::Error;
use crate::ids::Digest;

struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($(($version:literal, $name:literal)),* $(,)?) => {
        /// In order; a released one is never changed, only followed.
        const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/migrations/", $name, ".sql")),
        }),*];
    };
}

migrations![
    (1, "0001_events"),
    (2, "0002_pipeline"),
    (3, "0003_evidence"),
    (4, "0004_registrations"),
    (5, "0005_ways"),
    (6, "0006_snapshots"),
    (7, "0007_ledger"),
    (8, "0008_models"),
];

/// Brings a database up to date.
///
/// An existing database is first copied to `<file>.before-<version>`, so that a failed migration can be undone by hand.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    run_to(connection, path, MIGRATIONS)
}

fn run_to(connection: &mut Connection, path: &Path, migrations: &[Migration]) -> Result<(), Error> {
    let found = check(connection)?;
    let due: Vec<_> = migrations.iter().filter(|migration| migration.version > found).collect();
    if let (Some(first), true) = (due.first(), found > 0) {
        snapshot(connection, path, first.version)?;
    }
    for migration in due {
        apply(connection, migration)?;
    }
    Ok(())
}

/// The version of this program's database.
pub(super) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |newest| newest.version)
}

/// The version of this database, which must be one that this program, or an older one, has made.
pub(super) fn check(connection: &Connection) -> Result<i64, Error> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = newest();
    if found > known {
        return Err(Error::Newer { found, known });
    }
    check_applied(connection, found)?;
    Ok(found)
}

/// What was applied must be what this program would have applied: everything later stands on it.
fn check_applied(connection: &Connection, found: i64) -> Result<(), Error> {
    for migration in MIGRATIONS.iter().filter(|migration| migration.version <= found) {
        let recorded: Option<String> = rusqlite::OptionalExtension::optional(connection.query_row(
            "SELECT sha256 FROM migrations WHERE version = ?1",
            [migration.version],
            |row| row.get(0),
        ))?;
        if recorded != Some(Digest::of(migration.sql.as_bytes()).to_string()) {
            return Err(Error::Altered { version: migration.version });
        }
    }
    Ok(())
}

fn snapshot(connection: &Connection, path: &Path, version: i64) -> Result<(), Error> {
    let copy = path.with_extension(format!("sqlite.before-{version:04}"));
    // One of an earlier try that failed: this database has not changed since.
    match fs::remove_file(&copy) {
        Ok(()) => {}
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::File { act: "replace", path: copy, source }),
    }
    info!(copy = %copy.display(), "copying the database before it is migrated");
    connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    Ok(())
}

fn apply(connection: &mut Connection, migration: &Migration) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(migration.sql)?;
    let sha256 = Digest::of(migration.sql.as_bytes()).to_string();
    transaction.execute(
        "INSERT INTO migrations (version, name, sha256) VALUES (?1, ?2, ?3)",
        params![migration.version, migration.name, sha256],
    )?;
    transaction.pragma_update(None, "user_version", migration.version)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version")
    }

    #[test]
    fn every_released_version_can_be_brought_up_to_date() {
        let newest = MIGRATIONS.last().expect("there is one").version;
        for released in 0..=MIGRATIONS.len() {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("t.sqlite");
            let mut connection = Connection::open(&path).expect("a new database");
            run_to(&mut connection, &path, &MIGRATIONS[..released]).expect("the old version");
            let old = version(&connection);
            assert_eq!(old, i64::try_from(released).expect("few"));
            run(&mut connection, &path).expect("the new version");
            assert_eq!(version(&connection), newest);
            // Only a database that was there and had something to gain is copied.
            let copied = path.with_extension(format!("sqlite.before-{:04}", old + 1)).exists();
            assert_eq!(copied, old > 0 && old < newest, "from {old}");
            run(&mut connection, &path).expect("a second run changes nothing");
        }
    }

    #[test]
    fn versions_count_up_and_names_begin_with_them() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, i64::try_from(index).expect("few") + 1);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)), "{}", migration.name);
        }
    }

    #[test]
    fn a_database_from_the_future_is_left_alone() {
        let mut connection = Connection::open_in_memory().expect("a database");
        run(&mut connection, Path::new("t.sqlite")).expect("the present version");
        connection.pragma_update(None, "user_version", 9_999).expect("a version");
        let refused = run(&mut connection, Path::new("t.sqlite")).expect_err("it is newer");
        assert_eq!(refused.code().name, "db_newer", "{refused}");
    }

    #[test]
    fn an_altered_migration_is_noticed() {
        let mut connection = Connection::open_in_memory().expect("a database");
        run(&mut connection, Path::new("t.sqlite")).expect("the present version");
        connection.execute("UPDATE migrations SET sha256 = 'x' WHERE version = 1", []).expect("a row");
        let refused = run(&mut connection, Path::new("t.sqlite")).expect_err("it is not ours");
        assert_eq!(refused.code().name, "db_migration_altered", "{refused}");
    }

    #[test]
    fn a_failed_migration_leaves_the_old_version_and_its_copy() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("t.sqlite");
        let mut connection = Connection::open(&path).expect("a new database");
        run(&mut connection, &path).expect("the present version");
        let before = version(&connection);
        let wrong = [Migration {
            version: before + 1,
            name: "wrong",
            sql: "CREATE TABLE half (a TEXT) STRICT; CREATE TABLE half (a TEXT) STRICT;",
        }];
        run_to(&mut connection, &path, &wrong).expect_err("the table exists");
        assert_eq!(version(&connection), before);
        connection.prepare("SELECT * FROM half").expect_err("it was rolled back");
        assert!(path.with_extension(format!("sqlite.before-{:04}", before + 1)).exists());
    }
}
