//! The numbers of `specification.md` are those of the program, and the tests that it names exist.

use std::collections::{BTreeMap, BTreeSet};

use super::{files, read, root, rows, ticked};

macro_rules! constants {
    ($($($part:ident)::+),+ $(,)?) => {
        BTreeMap::from([$((stringify!($($part)::+), waag::$($part)::+.to_string())),+])
    };
}

/// The constants of the first table, as the program has them.
fn constants() -> BTreeMap<&'static str, String> {
    constants![
        limits::CONFIG_FILE_BYTES,
        limits::PAGE_ROWS,
        auth::FUTURE_MS_MAX,
        auth::AGE_MS_MAX,
        artifact::limits::ARCHIVE_FILES,
        artifact::limits::NAME_CHARS,
        artifact::limits::ARCHIVE_RATIO,
        artifact::limits::ONNX_DEPTH,
        artifact::limits::ONNX_OPSET_MIN,
        artifact::limits::ONNX_OPSET_MAX,
        gym::policy::STEP_COST_MAX,
        gym::rollouts::EPISODES_MAX,
        config::profile::limits::SLUG_CHARS,
        config::profile::limits::STAGES,
        config::profile::limits::CONTESTANTS,
        config::profile::limits::UPLOADS_PER_HOUR,
        score::subsets::ENVIRONMENTS_MAX,
        store::limits::EVENT_DATA_BYTES,
        store::limits::CACHE_VALUE_BYTES,
        server::limits::REQUESTS_PER_MINUTE,
        server::limits::LOOPBACK_FACTOR,
        server::limits::ANSWER_MS,
        weights::bundle::BUNDLE_BYTES,
        weights::bundle::CHALLENGES_MAX,
        chain::wallet::PASSWORD_BYTES_MIN,
        chain::wallet::PASSWORD_BYTES_MAX,
        devnet::limits::STATE_BLOCKS,
    ]
}

#[test]
fn the_numbers_are_the_programs() {
    let page = read("assets/handbook/specification.md");
    let (first, _) = page.split_once("## Exactness").expect("the first table ends there");
    let shown: BTreeMap<String, String> =
        rows(first).iter().map(|cells| (cells[0].trim_matches('`').to_owned(), cells[1].to_owned())).collect();
    let known: BTreeMap<String, String> =
        constants().into_iter().map(|(name, value)| (name.replace(' ', ""), value)).collect();
    assert_eq!(shown, known);
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let mut tests = BTreeSet::new();
    for path in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let text = read(path.to_str().expect("readable"));
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            match name {
                Some(name) if is_test => {
                    tests.insert(name.to_owned());
                    is_test = false;
                }
                Some(_) => is_test = false,
                None => is_test |= line == "#[test]" || line.starts_with("#[tokio::test"),
            }
        }
        // proptest! declares its tests without an attribute of their own before `fn` in every case.
        let functions = text.split("proptest! {").skip(1).flat_map(|block| block.split("fn ").skip(1));
        tests.extend(functions.filter_map(|rest| Some(rest.split('(').next()?.to_owned())));
    }
    let page = read("assets/handbook/specification.md");
    for line in page.lines().filter(|line| line.starts_with('|') && line.contains('`')) {
        let named = ticked(line.trim_matches('|').split(" | ").last().expect("cells"));
        assert!(!named.is_empty(), "nothing holds: {line}");
        for name in named {
            let exists = if name.contains('/') { root().join(name).exists() } else { tests.contains(name) };
            assert!(exists, "there is no test or benchmark `{name}`");
        }
    }
}
