//! The reference pages say all that there is, and nothing that is not.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use waag::{cli::exit::EXIT_CODES, config::ALIASES, pipeline::life::Status, score};

use super::{read, rows, ticked};

#[test]
fn the_ten_lines_of_the_handbook_are_the_tested_ones() {
    let tested = read("tests/interop/cast/ten_lines.py");
    let page = read("assets/handbook/miner.md");
    assert!(page.contains(&format!("```python\n{tested}```")), "miner.md and ten_lines.py differ");
    assert_eq!(tested.lines().count(), 10, "ten lines are promised");
}

/// Whether a page shows this key in a table.
fn shows(page: &str, key: &str) -> bool {
    rows(page).iter().any(|cells| cells[0] == format!("`{key}`"))
}

#[test]
fn every_key_of_the_shipped_profiles_is_explained() {
    let page = read("assets/handbook/profile.md");
    let mut texts = vec![read("profiles/albedo.toml"), read("profiles/quickstart.toml")];
    texts.extend(super::files("tests/profiles", "toml").iter().map(|path| read(path.to_str().expect("readable"))));
    for text in texts {
        let profile: toml::Table = toml::from_str(&text).expect("a profile");
        for (key, value) in &profile {
            let tables: Vec<&toml::Table> = match value {
                toml::Value::Table(table) => vec![table],
                toml::Value::Array(stages) => stages.iter().filter_map(toml::Value::as_table).collect(),
                _ => {
                    assert!(shows(&page, key), "`{key}`");
                    continue;
                }
            };
            assert!(page.contains(&format!("[{key}]")), "the table `{key}`");
            for (name, value) in tables.iter().flat_map(|table| table.iter()) {
                // Options belong to their part; those of parts that only tests have are not in the handbook.
                assert!(shows(&page, name), "`{key}.{name}`");
                if name == "retries" {
                    value.as_table().expect("a table").keys().for_each(|key| assert!(shows(&page, key), "`{key}`"));
                }
            }
        }
    }
    for shipped in ["profiles/albedo.toml", "profiles/quickstart.toml"] {
        let shipped: toml::Table = toml::from_str(&read(shipped)).expect("a profile");
        let stages = shipped["stage"].as_array().expect("stages").iter();
        let parts = stages.chain([&shipped["ranking"]]);
        for options in parts.filter_map(|part| part.get("options")?.as_table()) {
            options.keys().for_each(|key| assert!(shows(&page, key), "the option `{key}`"));
        }
    }
    for rule in score::rules() {
        assert!(page.contains(&format!("of `{}`", rule.name())), "the options of the rule `{}`", rule.name());
    }
}

fn flat(prefix: &str, table: &toml::Table, into: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(table) => flat(&key, table, into),
            value => into.push((key, value.to_string())),
        }
    }
}

#[test]
fn every_setting_is_explained_with_its_default() {
    let page = read("assets/handbook/settings.md");
    let defaults: toml::Table = toml::from_str(&read("assets/settings.default.toml")).expect("settings");
    let mut known = Vec::new();
    flat("", &defaults, &mut known);
    let (reference, spellings) = page.split_once("## Bittensor's spellings").expect("two parts");
    let shown: BTreeSet<(String, String)> = rows(reference)
        .iter()
        .map(|cells| (cells[0].trim_matches('`').to_owned(), cells[1].trim_matches('`').to_owned()))
        .collect();
    assert_eq!(shown, known.into_iter().collect());
    for alias in ALIASES {
        let line = spellings.lines().find(|line| line.starts_with(&format!("| `{}`", alias.key)));
        let line = line.unwrap_or_else(|| panic!("{} has no line", alias.key));
        assert!(line.contains(&format!("`--{}`", alias.flag)) && line.contains(alias.variable), "{}", alias.key);
    }
}

#[test]
fn the_operators_of_the_handbook_are_the_allowed_ones() {
    let page = read("assets/handbook/miner.md");
    let line = page.lines().find(|line| line.starts_with("**Operators.**")).expect("the list");
    let (_, list) = line.split_once("besides `Constant`: ").expect("the list");
    let shown: BTreeSet<&str> = ticked(list).into_iter().collect();
    let source = read("src/artifact/onnx/ops.rs");
    let allowed: BTreeSet<&str> = source.split("op(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(shown, allowed);
}

#[test]
fn every_route_is_in_the_handbook() {
    let source = read("src/server/routes.rs");
    let known: BTreeSet<String> = source
        .split(".route(\"")
        .skip(1)
        .map(|rest| {
            let (path, handler) = rest.split_once("\", ").expect("path and handler");
            let method = handler.split('(').next().expect("a method").to_ascii_uppercase();
            format!("{method} {path}")
        })
        .collect();
    let page = read("assets/handbook/http.md");
    let shown: BTreeSet<String> = rows(&page)
        .iter()
        .map(|cells| cells[0].trim_matches('`').to_owned())
        .filter(|cell| cell.contains(" /"))
        .collect();
    assert_eq!(shown, known);
}

#[test]
fn every_control_of_the_devnet_is_in_the_handbook() {
    let source = read("src/devnet/rpc/controls.rs");
    let known: BTreeSet<&str> = source.split("method(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let page = read("assets/handbook/devnet.md");
    let shown: BTreeSet<&str> = rows(&page)
        .iter()
        .filter_map(|cells| cells[0].trim_matches('`').split('(').next())
        .filter(|name| name.starts_with("dev_"))
        .collect();
    assert_eq!(shown, known);
}

#[test]
fn every_status_is_in_the_operators_page() {
    let page = read("assets/handbook/operator.md");
    for status in Status::ALL {
        assert!(shows(&page, status.as_str()), "{}", status.as_str());
    }
}

#[test]
fn every_exit_code_is_in_the_handbook() {
    let page = read("assets/handbook/exit-codes.md");
    let number = |line: &str| line.split([' ', '|']).find(|word| !word.is_empty()).map(ToOwned::to_owned);
    let known: Vec<_> = EXIT_CODES.lines().filter_map(number).collect();
    let shown: Vec<_> = page
        .lines()
        .filter_map(|line| number(line.strip_prefix("| ")?))
        .filter(|word| word.parse::<u8>().is_ok())
        .collect();
    assert_eq!(shown, known);
}

/// The verbs that a text tells its reader to run: the word after `waag` at the beginning of a code span or of a line.
fn verbs(text: &str) -> BTreeSet<&str> {
    let spans = text.split('`').filter_map(|span| span.strip_prefix("waag "));
    let lines = text.lines().filter_map(|line| line.strip_prefix("waag "));
    spans
        .chain(lines)
        .filter_map(|rest| rest.split(|char: char| !char.is_ascii_alphanumeric() && char != '-').next())
        .filter(|word| word.starts_with(|char: char| char.is_ascii_lowercase()))
        .collect()
}

#[test]
fn every_verb_that_is_named_exists() {
    let command = waag::cli::Args::command();
    let known: BTreeSet<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let mut pages: Vec<(String, String)> = super::files("assets/handbook", "md")
        .into_iter()
        .map(|path| path.to_str().expect("readable").to_owned())
        .chain(["README.md".to_owned()])
        .map(|path| (path.clone(), read(&path)))
        .collect();
    pages.extend(waag::cli::codes::all().map(|code| (code.name.to_owned(), format!("{}\n{}", code.says, code.hint))));
    let mut wrong = Vec::new();
    for (page, text) in &pages {
        wrong.extend(verbs(text).difference(&known).map(|verb| format!("{page}: waag {verb}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_verb_is_named_in_the_handbook_or_the_readme() {
    let mut text: String =
        super::files("assets/handbook", "md").iter().map(|path| read(path.to_str().expect("readable"))).collect();
    text.push_str(&read("README.md"));
    let named = verbs(&text);
    for verb in waag::cli::Args::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(named.contains(verb.get_name()), "`waag {}`", verb.get_name());
    }
}
