//! A disk that is full, and one that cannot be written.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use waag::{
    cli::{
        demo::play::Stage,
        devnet::Controls,
        miner::{self, Means, Publish},
    },
    ids::{Digest, SystemEntropy},
};

use super::{
    BLOCK_MS, NETUID,
    appliance::{Place, Process},
    ground, ledger,
    miners::{self, CLOCK, Miner},
    pace, profile,
    refusals::said,
    the_events_are_intact,
};

/// Room for the data of a small test several times over.
const DISK_MIB: u32 = 96;

/// A small file system in memory.
struct Disk {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Disk {
    /// `None` where the system does not let us mount one.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().to_owned();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs"])
            .arg(&root)
            .output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Self { _dir: dir, root }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(source) => source.to_string(),
        };
        println!("SKIPPED: a small disk cannot be mounted here: {why}");
        None
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.root).status();
        assert!(done.expect("mount is there").success(), "{how}");
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).expect("it is made");
        let mut chunk = vec![0_u8; 1 << 20];
        while !chunk.is_empty() {
            if filler.write_all(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still uses it keeps it until it lets go.
        drop(Command::new("umount").arg("-l").arg(&self.root).status());
    }
}

/// Uploads once and answers the code of the refusal.
async fn refused(stage: &Stage, miner: &Miner) -> String {
    let what = Publish {
        commit: miner.what(stage),
        api: &stage.api,
        checks: None,
        skip_commit: true,
        patience_ms: 0,
        foreign_form: false,
        foreign: None,
        fee: None,
        means: Means::Stored,
    };
    let published = miner::publish(&stage.chain, &what, &SystemEntropy, &CLOCK, &|_| {}).await;
    published.expect_err("there is no room").code
}

/// Nothing half arrived, and everything that is kept is what its name says.
fn blobs_are_whole(data: &Path) {
    let arriving = data.join("blobs/tmp");
    assert!(!arriving.exists() || fs::read_dir(arriving).expect("a folder").next().is_none(), "half a blob is left");
    let mut kept = 0;
    for folder in fs::read_dir(data.join("blobs/sha256")).expect("a folder") {
        for blob in fs::read_dir(folder.expect("an entry").path()).expect("a folder") {
            let blob = blob.expect("an entry");
            let digest = Digest::of(&fs::read(blob.path()).expect("it can be read"));
            assert_eq!(blob.file_name().to_str(), Some(&*digest.to_string()));
            kept += 1;
        }
    }
    assert!(kept > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_survived() {
    let Some(disk) = Disk::mount() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = Place::new(dir.path(), NETUID, BLOCK_MS).with_data(&disk.root.join("data"));
    place.write(&profile());
    let (chain, stage, _validator) = ground(&place).await;

    disk.fill();
    let (exit, code, detail) = said(&place.run(&["up"]));
    assert_eq!((exit, code.as_str()), (Some(6), "disk_full"), "{detail}");
    disk.free();

    let mut process = Process::up(&place, None);
    let miners = miners::prepare(&stage, &["specialist", "mediocre"]);
    let controls = Controls::connect(&chain.url).await.expect("a devnet");
    let committed = async {
        let mut last = 0;
        for miner in &miners {
            miner.register(&stage, &controls).await;
            last = last.max(miner.commit(&stage).await);
        }
        miners[0].enter(&stage).await;
        stage.until(async || Ok(ledger::followed_to(&place).is_some_and(|block| block >= last))).await
    };
    pace::during(&place, &stage, committed).await.expect("the commitments are taken in");

    disk.fill();
    assert_eq!(refused(&stage, &miners[1]).await, "disk_full");
    let followed = ledger::followed_to(&place);
    controls.new_blocks(4).await.expect("the chain has its own disk");
    process.assert_runs();
    stage.api.health().await.expect("it answers");
    disk.free();

    let rested = async {
        miners[1].enter(&stage).await;
        let rested = stage.until(async || {
            process.assert_runs();
            Ok(ledger::is_at_rest(&place))
        });
        assert!(rested.await.is_ok(), "it never comes to rest: {:?}", ledger::left(&place));
    };
    pace::during(&place, &stage, rested).await;
    assert!(ledger::followed_to(&place) > followed, "it follows the chain again");
    ledger::nothing_was_folded_twice(&place);
    assert_eq!(process.stop(), Some(0));
    blobs_are_whole(place.data());
    the_events_are_intact(&place).await;
}

#[test]
fn a_disk_that_cannot_be_written_any_more_is_said() {
    let Some(disk) = Disk::mount() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = Place::new(dir.path(), NETUID, BLOCK_MS).with_data(&disk.root.join("data"));
    place.write(&profile());
    assert_eq!(Process::start(&place, &["up", "--dev"]).0.stop(), Some(0));
    disk.remount("ro");
    let (exit, code, detail) = said(&place.run(&["up", "--dev"]));
    assert_eq!((exit, code.as_str()), (Some(4), "data_dir_unwritable"), "{detail}");
    disk.remount("rw");
    assert_eq!(Process::start(&place, &["up", "--dev"]).0.stop(), Some(0));
}
