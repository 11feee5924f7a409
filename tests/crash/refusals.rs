//! What does not start says why.

use std::{fs, net::TcpListener, process::Output};

use serde_json::Value;

use super::{
    BLOCK_MS, NETUID,
    appliance::{Place, Process},
    place, profile,
};

/// The exit code, the fault's code and its detail.
pub fn said(ended: &Output) -> (Option<i32>, String, String) {
    let document: Value = serde_json::from_slice(&ended.stdout).expect("one document");
    let text = |name: &str| document["error"][name].as_str().expect("text").to_owned();
    (ended.status.code(), text("code"), text("detail"))
}

#[test]
fn a_second_instance_on_one_data_directory_is_refused() {
    let (_dir, place) = place();
    let (_first, _said) = Process::start(&place, &["up", "--dev"]);
    let ended = place.run(&["up", "--dev", "--listen", "127.0.0.1:0"]);
    let (exit, code, detail) = said(&ended);
    assert_eq!((exit, code.as_str()), (Some(4), "data_dir_locked"), "{detail}");
}

#[test]
fn a_port_in_use_is_refused_before_anything_is_made() {
    let (_dir, place) = place();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").to_string();
    let ended = place.run(&["up", "--dev", "--listen", &port]);
    let (exit, code, detail) = said(&ended);
    assert_eq!((exit, code.as_str()), (Some(4), "port_in_use"), "{detail}");
    assert!(!place.data().exists(), "nothing was made");
}

/// Nobody, not even root, makes folders below a file or in sysfs.
#[test]
fn a_data_directory_that_cannot_be_made_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "no folder").expect("it is written");
    for data in [file.join("data"), "/sys/waag-data".into()] {
        let place = Place::new(dir.path(), NETUID, BLOCK_MS).with_data(&data);
        place.write(&profile());
        for args in [&["up"][..], &["up", "--dev"]] {
            let (exit, code, detail) = said(&place.run(args));
            assert_eq!((exit, code.as_str()), (Some(4), "data_dir_unwritable"), "{}: {detail}", data.display());
        }
    }
}

#[test]
fn settings_that_cannot_be_read_end_with_code_two() {
    let (dir, place) = place();
    for garbage in ["\u{0}\u{1}", "[network\nnetuid = 7", "netuid = \"seven\"", &format!("netuids = {NETUID}")] {
        fs::write(dir.path().join("waag.toml"), garbage).expect("it is written");
        let ended = place.run(&["up", "--dev"]);
        let (exit, code, detail) = said(&ended);
        assert_eq!(exit, Some(2), "{garbage:?}: {code}");
        assert!(code.starts_with("settings_") && detail.contains("waag.toml:"), "{garbage:?}: {code}: {detail}");
    }
}
