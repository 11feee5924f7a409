//! Every code of the program has its section in the handbook, and nothing else has one.

use std::collections::{BTreeMap, BTreeSet};

use waag::{cli::codes::all, fault::Code};

use super::{files, read, root};

/// Code → the room whose sources declare it, found by reading them: every `const …: Code = …` and the first text
/// after it. Test modules and test files are not looked at.
fn declared() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in files("src", "rs") {
        let room = path.components().nth(1).expect("below src").as_os_str().to_str().expect("readable");
        let name = path.file_name().and_then(|name| name.to_str()).expect("readable");
        if name == "tests.rs" || name.ends_with("_tests.rs") || room.ends_with(".rs") {
            continue;
        }
        let text = read(path.to_str().expect("readable"));
        let code = before_tests(&text);
        let mut start = 0;
        for line in code.split_inclusive('\n') {
            let is_declaration = line.contains("const ") && (line.contains(": Code =") || line.contains("::Code ="));
            if is_declaration {
                let name = code[start..].split('"').nth(1).expect("a code has a name");
                found.insert(name.to_owned(), room.to_owned());
            }
            start += line.len();
        }
    }
    found
}

/// The text without its unit tests.
fn before_tests(text: &str) -> &str {
    let mut starts = text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at);
    let block = starts.find(|at| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{')));
    &text[..block.unwrap_or(text.len())]
}

/// Page of the handbook → its sections as heading and text.
fn sections() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for path in files("assets/handbook/errors", "md") {
        let page = path.file_stem().and_then(|stem| stem.to_str()).expect("readable").to_owned();
        let text = read(path.to_str().expect("readable"));
        for section in text.split("\n## ").skip(1) {
            let (heading, body) = section.split_once('\n').expect("a heading and a text");
            found.push((page.clone(), heading.to_owned(), body.trim().to_owned()));
        }
    }
    found
}

fn by_name() -> BTreeMap<&'static str, &'static Code> {
    all().map(|code| (code.name, code)).collect()
}

#[test]
fn every_declared_code_is_listed_by_its_room() {
    let known = by_name();
    let missing: Vec<_> = declared().into_iter().filter(|(name, _)| !known.contains_key(name.as_str())).collect();
    assert!(missing.is_empty(), "declared in the sources, and not in `cli::codes::all`: {missing:?}");
}

#[test]
fn codes_are_unique_and_written_alike() {
    let mut names = BTreeSet::new();
    for code in all() {
        let Code { name, says, hint, .. } = code;
        assert!(names.insert(*name), "{name} is listed twice");
        let is_snake = !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        assert!(is_snake, "{name}");
        for line in [says, hint] {
            let capital = line.chars().next().is_none_or(char::is_uppercase);
            let plain = line.trim() == *line && !line.contains('\n') && !line.ends_with('.');
            assert!(!capital && plain, "{name}: `{line}`");
        }
    }
}

#[test]
fn every_code_has_exactly_one_section() {
    let known = by_name();
    let mut seen = BTreeSet::new();
    for (page, heading, _) in sections() {
        assert!(known.contains_key(heading.as_str()), "errors/{page}.md explains `{heading}`, which no room raises");
        assert!(seen.insert(heading.clone()), "`{heading}` is explained twice");
    }
    let missing: Vec<_> = known.keys().filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "no section in assets/handbook/errors: {missing:?}");
}

#[test]
fn sections_stand_on_the_page_of_their_room() {
    let rooms = declared();
    for (page, heading, _) in sections() {
        if let Some(room) = rooms.get(&heading) {
            assert!(*room == page || belongs(room, &page), "`{heading}` of src/{room} stands in errors/{page}.md");
        }
    }
}

/// What a verb raises about another room is explained where its reader looks.
fn belongs(room: &str, page: &str) -> bool {
    room == "cli" && root().join("src").join(page).is_dir()
}

#[test]
fn sections_say_whose_trouble_it_is_what_happened_why_and_what_to_do() {
    let known = by_name();
    for (page, heading, body) in sections() {
        let Some(code) = known.get(heading.as_str()) else { continue };
        let paragraphs: Vec<&str> = body.split("\n\n").collect();
        let [class, happened, causes, act] = paragraphs.as_slice() else {
            panic!("errors/{page}.md: `{heading}` has {} paragraphs, not 4", paragraphs.len());
        };
        assert_eq!(*class, format!("Class: {}.", code.class), "{heading}");
        assert!(causes.starts_with("Likely causes: ") && act.starts_with("What to do"), "{heading}");
        assert!(happened.ends_with('.') && causes.ends_with('.') && act.ends_with('.'), "{heading}");
        assert!(!body.contains(code.hint), "the section of `{heading}` repeats the hint");
    }
}
