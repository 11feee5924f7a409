//! `waag help`: the handbook, the verbs and the meaning of every code.

use clap::CommandFactory as _;
use serde_json::json;

use super::{
    Args as CommandLine, Context, Failure, Outcome, codes,
    exit::{EXIT_CODES, answer},
};
use crate::fault::Code;

macro_rules! pages {
    ($($name:literal: $title:literal,)+) => {
        &[$(Page {
            name: $name,
            title: $title,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/handbook/", $name, ".md")),
        }),+]
    };
}

/// A page of the handbook.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Its file below `assets/handbook`, without the ending.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The handbook, in reading order.
pub const HANDBOOK: &[Page] = pages! {
    "README": "where to begin",
    "operator": "run an appliance for a subnet",
    "miner": "train, pack, check and send a policy",
    "validator": "how weights come about, and how a stranger checks them",
    "life": "the life of a submission",
    "ranking": "who is paid and why",
    "copies": "how copies of models are found",
    "profile": "every key of a challenge's file",
    "settings": "every setting",
    "wallet": "keys, their files and their passwords",
    "http": "the HTTP interface",
    "devnet": "the embedded chain",
    "exit-codes": "what a shell sees",
    "specification": "the public promises as numbers",
    "glossary": "the words",
    "errors/config": "errors of settings and profiles",
    "errors/auth": "errors of signed requests",
    "errors/chain": "errors of chain, commitments and wallets",
    "errors/store": "errors of the data directory",
    "errors/artifact": "errors of artifacts",
    "errors/dedup": "errors about copies",
    "errors/stage": "errors of the stages",
    "errors/gym": "errors of policies and rollouts",
    "errors/engine": "errors of jobs",
    "errors/intake": "errors of commitments and uploads",
    "errors/pipeline": "errors of the pipeline",
    "errors/actors": "errors of workers",
    "errors/weights": "errors of weights",
    "errors/server": "errors of the HTTP interface",
    "errors/devnet": "errors of the embedded chain",
    "errors/cli": "errors of the command line",
};

/// Arguments of `waag help`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag help                       the pages of the handbook
  waag help life                  a page
  waag help publish               a verb
  waag help exit-codes            what a shell sees
  waag help artifact_missing      what an error code means and what to do
  waag help codes                 every error code")]
pub struct Args {
    /// A page, a verb, an error code, `codes` or `exit-codes`
    topic: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such topic.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let json = context.json();
    let Some(topic) = args.topic.as_deref() else {
        let document = json!({ "pages": pages(), "verbs": verbs() });
        answer(json, &document, contents);
        return Ok(());
    };
    if topic == "exit-codes" {
        answer(json, &json!({ "exit_codes": exit_codes() }), || EXIT_CODES.to_owned());
    } else if topic == "codes" {
        let all: Vec<_> = codes::all().map(json_of).collect();
        answer(json, &json!({ "codes": all }), || codes::all().map(one_line).collect::<Vec<_>>().join("\n"));
    } else if let Some(code) = codes::find(topic) {
        let document = json!({ "code": json_of(code), "section": section(code.name) });
        answer(json, &document, || explained(code));
    } else if let Some(page) = HANDBOOK.iter().find(|page| page.name == topic) {
        answer(json, &json!({ "page": page.name, "text": page.text }), || page_in_words(page));
    } else if let Some(text) = verb_help(topic) {
        answer(json, &json!({ "verb": topic, "text": text }), || text.trim_end().to_owned());
    } else {
        return Err(unknown(topic));
    }
    Ok(())
}

/// The page, and where the verb of the same name is explained, if there is one.
fn page_in_words(page: &Page) -> String {
    let text = page.text.trim_end();
    if verbs().iter().any(|verb| verb == page.name) {
        format!("{text}\n\n`waag {} --help` explains the verb of this name.", page.name)
    } else {
        text.to_owned()
    }
}

fn pages() -> Vec<serde_json::Value> {
    HANDBOOK.iter().map(|page| json!({ "page": page.name, "title": page.title })).collect()
}

fn verbs() -> Vec<String> {
    CommandLine::command()
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| verb.get_name().to_owned())
        .collect()
}

fn exit_codes() -> Vec<serde_json::Value> {
    let split = |line: &str| {
        let (number, words) = line.split_once(' ')?;
        Some(json!({ "exit": number.parse::<u8>().ok()?, "says": words.trim() }))
    };
    EXIT_CODES.lines().filter_map(split).collect()
}

fn contents() -> String {
    let mut lines = vec!["The handbook:".to_owned()];
    lines.extend(HANDBOOK.iter().map(|page| format!("  {:<18}{}", page.name, page.title)));
    lines.push(format!("  {:<18}every error code", "codes"));
    lines.push("\nThe verbs:".to_owned());
    for verb in CommandLine::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        lines.push(format!("  {:<18}{about}", verb.get_name()));
    }
    lines.push("\n`waag help TOPIC` shows any of them, and explains any error code.".to_owned());
    lines.join("\n")
}

fn json_of(code: &Code) -> serde_json::Value {
    json!({ "code": code.name, "class": code.class, "says": code.says, "hint": code.hint })
}

fn one_line(code: &Code) -> String {
    format!("{:<34}{:<10}{}", code.name, code.class.as_str(), code.says)
}

fn explained(code: &Code) -> String {
    let mut text = format!("{} ({})\n  {}\n  hint: {}", code.name, code.class, code.says, code.hint);
    if let Some(section) = section(code.name) {
        text.push_str("\n\n");
        text.push_str(section);
    }
    text
}

/// The section of the handbook whose heading is this code.
fn section(code: &str) -> Option<&'static str> {
    HANDBOOK.iter().filter(|page| page.name.starts_with("errors/")).find_map(|page| {
        let heading = format!("## {code}\n");
        let (_before, after) = page.text.split_once(&heading)?;
        let end = after.find("\n## ").unwrap_or(after.len());
        Some(after[..end].trim())
    })
}

/// The long help of a verb.
fn verb_help(name: &str) -> Option<String> {
    let mut command = CommandLine::command();
    command.build();
    let verb = command.find_subcommand_mut(name)?;
    Some(verb.render_long_help().to_string())
}

fn unknown(topic: &str) -> Failure {
    let verbs = verbs();
    let topics = HANDBOOK
        .iter()
        .map(|page| page.name)
        .chain(codes::all().map(|code| code.name))
        .chain(verbs.iter().map(String::as_str))
        .chain(["codes", "exit-codes"]);
    let shown: String = topic.chars().take(64).collect();
    let nearest = topics.map(|known| (strsim::damerau_levenshtein(&shown, known), known)).min();
    let meant = nearest.filter(|(slips, _)| *slips <= (shown.chars().count() / 3).max(1));
    let what = meant.map_or_else(
        || "; `waag help` lists what there is".to_owned(),
        |(_slips, known)| format!("; did you mean `{known}`?"),
    );
    Failure::usage(format!("there is no topic `{shown}`{what}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_page_of_the_handbook_is_in_the_binary() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/handbook");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "md") {
                    let name = path.strip_prefix(&root).unwrap().with_extension("");
                    let name = name.to_str().unwrap();
                    assert!(HANDBOOK.iter().any(|page| page.name == name), "`{name}` is not listed");
                }
            }
        }
    }

    #[test]
    fn an_unknown_topic_names_the_nearest() {
        assert!(unknown("publsh").fault.detail.contains("`publish`"));
        assert!(unknown("artifact_mising").fault.detail.contains("`artifact_missing`"));
        assert!(unknown("zzzzzzzzzzzz").fault.detail.contains("lists what there is"));
    }
}
