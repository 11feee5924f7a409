//! The words around the program: handbook, error pages, README and the sources themselves say what is so.

mod codes;
mod reference;
mod sources;
mod specification;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|source| panic!("{path}: {source}"))
}

/// All files below a folder of the repository that have this ending, sorted, as paths from the root.
fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(below)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|source| panic!("{}: {source}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{ending} below {below}");
    found
}

/// The texts in back ticks of a line or page, in order. Fences of code blocks are not looked at.
fn ticked(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The rows of all tables of a page, as their cells.
fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn every_link_of_readme_and_handbook_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut pages = files("assets/handbook", "md");
    pages.push(PathBuf::from("README.md"));
    for page in &pages {
        let text = read(page.to_str().expect("a readable name"));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_elsewhere = target.starts_with("https://") || target.is_empty();
            if !is_elsewhere && !root().join(page).with_file_name(target).exists() {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_handbooks_index() {
    let index = read("assets/handbook/README.md");
    for page in files("assets/handbook", "md") {
        let name = page.strip_prefix("assets/handbook").expect("of the handbook").to_str().expect("readable");
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "the index has no link to {name}");
    }
}

#[test]
fn the_readme_has_the_two_commands() {
    let readme = read("README.md");
    for command in ["cargo run --release -- demo", "cargo test"] {
        assert!(readme.lines().any(|line| line.trim() == command), "{command}");
    }
}
