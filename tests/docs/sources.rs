//! What may not stand in the sources.

use super::{files, read};

/// Names of profiles: a subnet is a file, so nothing but the loading of profiles may know one by name.
const PROFILES: &[&str] = &["quickstart", "albedo", "bitrecs", "eirel", "kinitro", "platform"];

/// Folders of one machine. No file may depend on where it was written.
const PLACES: &[&str] = &["/work/", "/root/", "/Users/", "C:\\"];

#[test]
fn no_profile_is_known_by_name() {
    let mut wrong = Vec::new();
    for path in files("src", "rs") {
        if path.starts_with("src/config/profile") {
            continue;
        }
        let text = read(path.to_str().expect("readable"));
        for (number, line) in text.lines().enumerate() {
            let lower = line.to_ascii_lowercase();
            let mut words = lower.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
            if words.any(|word| PROFILES.contains(&word)) {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let mut wrong = Vec::new();
    let mut paths = Vec::new();
    for (below, ending) in [
        ("src", "rs"),
        ("tests", "rs"),
        ("tests", "py"),
        ("tests", "toml"),
        ("assets", "md"),
        ("assets", "toml"),
        ("assets", "sql"),
        ("profiles", "toml"),
    ] {
        paths.extend(files(below, ending));
    }
    paths.extend(["README.md", "CHANGELOG.md", "Cargo.toml", ".ci/run"].map(Into::into));
    for path in paths.iter().filter(|path| !path.ends_with("docs/sources.rs")) {
        let text = read(path.to_str().expect("readable"));
        for place in PLACES.iter().filter(|place| text.contains(**place)) {
            wrong.push(format!("{} names {place}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
