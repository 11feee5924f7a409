//! Every mistake a profile can have, with the line at which it is reported.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const WHOLE: &str = r#"format = 1
slug = "walkers"
title = "Walkers"
share = 0.5
[artifact]
kind = "policy"
bytes_max = 1000
[intake]
door = "commitment"
[run]
opens = "blocks"
every_blocks = 30
[[stage]]
name = "first"
kind = "checks"
[[stage]]
name = "second"
kind = "rollouts"
[stage.options]
episodes = 200
depth = { inner = 1 }
[stage.retries]
backoff_ms_min = 10
backoff_ms_max = 20
[ranking]
rule = "subsets"
options = { alpha = 0.01 }
"#;

fn parse(text: &str) -> Result<Profile, Error> {
    Profile::parse(text, "p.toml")
}

/// The whole profile with one line replaced; `None` removes it.
fn with_line(line: usize, instead: Option<&str>) -> String {
    let lines = WHOLE.lines().enumerate().filter_map(|(index, text)| match instead {
        _ if index + 1 != line => Some(text),
        Some(instead) => Some(instead),
        None => None,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn refused(result: Result<impl std::fmt::Debug, Error>) -> (&'static str, Place, String) {
    match result.expect_err("it has a mistake") {
        Error::Profile { code, place, what } => (code.name, place, what),
        other => panic!("{other}"),
    }
}

/// Replacing this line by this text is refused at that line with this code and words.
#[track_caller]
fn assert_mistake(line: usize, instead: &str, code: &str, words: &str) {
    let (found, place, what) = refused(parse(&with_line(line, Some(instead))));
    assert_eq!((found, place.line), (code, line), "{place}: {what}");
    assert!(what.contains(words), "{what}");
    assert_eq!(place.origin, "p.toml");
}

#[test]
fn the_whole_profile_is_read() {
    let profile = parse(WHOLE).expect("it is whole");
    assert_eq!(profile.slug.as_str(), "walkers");
    assert_eq!(profile.stages[0].options, json!({}));
    assert_eq!(profile.stages[1].options, json!({ "episodes": 200, "depth": { "inner": 1 } }));
    assert_eq!((profile.stages[0].retries.infra, profile.stages[1].retries.backoff_ms_max), (5, 20));
    assert_eq!((profile.intake.reveal_within_blocks, profile.intake.artifact_within_blocks), (300, 600));
    assert_eq!((profile.run.opens, profile.run.incumbents), (Opens::Blocks, Incumbents::None));
    assert_eq!(profile.ranking.options, json!({ "alpha": 0.01 }));
    assert_eq!(profile.text(), WHOLE);
    assert_eq!(profile.digest(), Digest::of(WHOLE.as_bytes()));
}

#[test]
fn unknown_keys_are_named_with_the_key_that_was_meant() {
    for (line, instead, words) in [
        (3, "titel = \"x\"", "did you mean `title`?"),
        (6, "kinds = \"policy\"", "did you mean `kind`?"),
        (9, "dor = \"x\"", "did you mean `door`?"),
        (12, "every_block = 30", "did you mean `every_blocks`?"),
        (14, "nmae = \"x\"", "did you mean `name`?"),
        (24, "backof_ms_max = 20", "did you mean `backoff_ms_max`?"),
        (26, "zzzzzzzz = 1", "known are rule, options"),
        (11, "opens = \"block\"", "did you mean `blocks`?"),
        (12, "guard = \"rankings\"", "did you mean `ranking`?"),
        (12, "incumbents = \"all\"", "known are none, ranked, finished"),
    ] {
        assert_mistake(line, instead, "profile_unknown_key", words);
    }
}

#[test]
fn values_out_of_bounds_are_named_at_their_line() {
    for (line, instead, words) in [
        (1, "format = 2", "2 is not within 1 and 1"),
        (2, "slug = \"Walkers\"", "`Walkers` is not a name"),
        (2, "slug = \"-w\"", "is not a name"),
        (2, "slug = \"\"", "is not a name"),
        (2, "slug = \"w_w\"", "is not a name"),
        (2, "slug = 7", "expected a string"),
        (3, "title = \"\"", "1 to 120 characters"),
        (3, "title = \"a\\nb\"", "no control characters"),
        (4, "share = 1.5", "1.5 is not within 0 and 1"),
        (4, "share = -0.1", "-0.1 is not within"),
        (4, "share = nan", "is not within"),
        (7, "bytes_max = 0", "0 is not within 1"),
        (7, "bytes_max = -1", "-1 is not within 1"),
        (7, "bytes_max = 1.0", "expected i64"),
        (9, "door = \"x\"\nuploads_per_hour = 0", "0 is not within 1 and 3600"),
        (12, "every_blocks = 0", "0 is not within 1"),
        (12, "contestants_max = 1025", "1025 is not within 1 and 1024"),
        (12, "seed_delay_blocks = 201", "201 is not within 0 and 200"),
        (12, "rounds_after_arrival = 101", "not within 0 and 100"),
        (14, "name = \"First!\"", "`First!` is not a name"),
        (18, "kind = \"x\"\nlease_ms = 99", "99 is not within 100"),
        (20, "episodes = nan", "finite"),
        (20, "episodes = 2020-01-01", "no dates"),
        (23, "infra = 101", "101 is not within 0 and 100"),
        (24, "backoff_ms_max = 9", "9, less than backoff_ms_min 10"),
        (17, "name = \"first\"", "a second stage is called `first`"),
        (11, "", "only counts with"),
        (9, "door = \"x\"\nreveal_within_blocks = 601", "is 600, less than reveal_within_blocks 601"),
    ] {
        let text = with_line(line, Some(instead));
        let (code, place, what) = refused(parse(&text));
        let found = text.lines().nth(place.line - 1).unwrap_or_default();
        assert_eq!(code, "profile_invalid", "{instead}: {what}");
        assert!(what.contains(words), "{instead}: {what}");
        let key = instead.lines().last().unwrap_or_default().split(' ').next().unwrap_or_default();
        let expected = match key {
            "" => "every_blocks",
            // A default has no line of its own, and options are read as one: their table is named.
            "reveal_within_blocks" => "[intake]",
            "episodes" => "[stage.options]",
            _ => key,
        };
        assert!(found.starts_with(expected), "{instead}: reported at line {}, `{found}`", place.line);
    }
}

#[test]
fn bounds_are_reached() {
    for (line, instead) in [
        (2, "slug = \"a234567890123456789012345678901\""),
        (4, "share = 1"),
        (4, "share = 0"),
        (12, "every_blocks = 1000000"),
        (12, "every_blocks = 1\ncontestants_max = 1024\nseed_delay_blocks = 200\nrounds_after_arrival = 100"),
    ] {
        parse(&with_line(line, Some(instead))).expect(instead);
    }
    assert_mistake(2, "slug = \"a2345678901234567890123456789012\"", "profile_invalid", "is not a name");
    let stages = |count: usize| {
        let stage = |n: usize| format!("[[stage]]\nname = \"s{n}\"\nkind = \"checks\"\n");
        let head: String = WHOLE.lines().take(12).map(|line| format!("{line}\n")).collect();
        head + &(0..count).map(stage).collect::<String>() + "[ranking]\nrule = \"subsets\"\n"
    };
    parse(&stages(limits::STAGES)).expect("as many as allowed");
    let (code, place, _) = refused(parse(&stages(limits::STAGES + 1)));
    assert_eq!((code, place.line), ("profile_invalid", 12 + 3 * limits::STAGES + 1));
}

#[test]
fn what_is_missing_is_named_in_its_table() {
    for (line, words, at) in
        [(2, "missing field `slug`", 1), (6, "missing field `kind`", 5), (18, "missing field `kind`", 16)]
    {
        let (code, place, what) = refused(parse(&with_line(line, None)));
        assert_eq!((code, place.line), ("profile_invalid", at), "{what}");
        assert!(what.contains(words), "{what}");
    }
}

#[test]
fn what_is_no_toml_is_named_at_its_line() {
    for (line, instead) in [(3, "title = \"open"), (5, "[artifact"), (9, "door = commitment"), (7, "kind = \"twice\"")]
    {
        let (code, place, what) = refused(parse(&with_line(line, Some(instead))));
        assert_eq!((code, place.line), ("profile_syntax", line), "{instead}: {what}");
    }
}

#[test]
fn a_profile_of_a_megabyte_is_the_wrong_file() {
    let padded = |bytes: usize| format!("{WHOLE}{}", "#".repeat(bytes - WHOLE.len()));
    let most = usize::try_from(CONFIG_FILE_BYTES).expect("it fits");
    parse(&padded(most)).expect("it fits");
    let refusal = parse(&padded(most + 1)).expect_err("too large");
    assert_eq!(refusal.code().name, "settings_too_large");
}

#[test]
fn a_profile_may_set_some_defaults() {
    let with = |settings: &str| parse(&format!("{WHOLE}{settings}\n"));
    with("[settings.weights]\nburn_uid = 7").expect("weights are allowed");
    let lines = WHOLE.lines().count();
    for (settings, code, line, words) in [
        ("[settings.server]\nlisten = \"0.0.0.0:1\"", "profile_invalid", 2, "may only set slots, weights"),
        ("[settings]\ndata_dir = \"/\"", "profile_invalid", 2, "may only set"),
        ("[settings.weights]\nburn_uuid = 7", "profile_unknown_key", 2, "did you mean `burn_uid`?"),
        ("[settings.weights]\nburn_uid = 70000", "profile_invalid", 2, "70000 is not within 0 and 65535"),
    ] {
        let (found, place, what) = refused(with(settings));
        assert_eq!((found, place.line), (code, lines + line), "{what}");
        assert!(what.contains(words), "{what}");
    }
}

struct Parts;

impl Catalog for Parts {
    fn names(&self, part: Part) -> Vec<&'static str> {
        match part {
            Part::Artifact => vec!["policy"],
            Part::Door => vec!["commitment"],
            Part::Stage => vec!["checks", "rollouts"],
            Part::Rule => vec!["subsets"],
        }
    }

    fn check(&self, _part: Part, name: &str, _artifact: &str, options: &Value) -> Result<(), String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Rollouts {
            episodes: u32,
            #[serde(default, rename = "depth")]
            _depth: Value,
        }
        if name != "rollouts" {
            return Ok(());
        }
        let options: Rollouts = serde_json::from_value(options.clone()).map_err(|error| error.to_string())?;
        if options.episodes > 1000 { Err("`episodes` is more than 1000".to_owned()) } else { Ok(()) }
    }
}

#[test]
fn parts_are_checked_at_their_lines() {
    parse(WHOLE).and_then(|profile| profile.check(&Parts)).expect("all parts are there");
    for (line, instead, words) in [
        (6, "kind = \"polices\"", "unknown artifact kind `polices`; did you mean `policy`?"),
        (9, "door = \"zzzzzz\"", "unknown door `zzzzzz`; known are commitment"),
        (15, "kind = \"check\"", "unknown stage kind `check`; did you mean `checks`?"),
        (26, "rule = \"subset\"", "unknown ranking rule `subset`; did you mean `subsets`?"),
        (20, "episodes = 1001", "`episodes` is more than 1000"),
        (20, "episods = 200", "unknown option `episods` of `rollouts`; did you mean `episodes`?"),
    ] {
        let profile = parse(&with_line(line, Some(instead))).expect("the form is right");
        let (code, place, what) = refused(profile.check(&Parts));
        assert_eq!((code, place.line), ("profile_part", line), "{what}");
        assert!(what.contains(words), "{what}");
    }
    // What is missing is reported at the options, and without any at the kind.
    let profile = parse(&with_line(20, None)).expect("the form is right");
    assert_eq!(refused(profile.check(&Parts)).1.line, 19);
    let profile = parse(&with_line(15, Some("kind = \"rollouts\""))).expect("the form is right");
    assert_eq!(refused(profile.check(&Parts)).1.line, 15);
}

#[test]
fn embedded_profiles_are_whole() {
    for name in embedded_names() {
        let profile = Profile::load(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(profile.slug.as_str(), name);
    }
    assert!(embedded(EMBEDDED_DEFAULT).is_some());
}

#[test]
fn models_are_named_by_their_commitments() {
    let with = |intake: &str| {
        let text = WHOLE.replace("kind = \"policy\"", "kind = \"model\"");
        let text = text.replace("door = \"commitment\"", &format!("door = \"commitment\"\n{intake}"));
        assert!(text.contains("kind = \"model\"") && text.contains(intake), "{text}");
        parse(&text)
    };
    with("source = \"plain\"\npattern = \"v1|{repo:path}|{digest:sha256}\"").expect("it says where");
    for intake in ["", "source = \"plain\"\npattern = \"v1|{digest:sha256}\""] {
        let (code, _, what) = refused(with(intake));
        assert!(code == "profile_invalid" && what.contains("{repo:path}"), "{what}");
    }
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let missing = Profile::load("nobody").expect_err("there is none");
    assert_eq!(missing.code().name, "profile_missing");
    assert!(missing.to_string().contains(EMBEDDED_DEFAULT), "{missing}");
    let unreadable = Profile::load("./nobody.toml").expect_err("there is none");
    assert_eq!(unreadable.code().name, "settings_unreadable");
}

#[test]
fn profiles_share_one_subnet() {
    let profile = |slug: &str, share: f64| {
        let text = WHOLE.replace("walkers", slug).replace("share = 0.5", &format!("share = {share:?}"));
        parse(&text).expect("it is whole")
    };
    let tenths: Vec<_> = (0..10).map(|n| profile(&format!("p{n}"), 0.1)).collect();
    check_together(&tenths).expect("ten tenths are one");
    for clash in [vec![profile("a", 0.5), profile("a", 0.1)], vec![profile("a", 0.5), profile("b", 0.51)]] {
        assert_eq!(check_together(&clash).expect_err("they clash").code().name, "profiles_clash");
    }
}

#[test]
fn a_slug_reads_what_it_writes() {
    for good in ["a", "0", "a-b-0", "a234567890123456789012345678901"] {
        assert_eq!(good.parse::<Slug>().expect(good).to_string(), good);
    }
    for bad in ["", "-", "-a", "A", "ä", "a b", "a_b", "a.b", "a/b", "a234567890123456789012345678901x"] {
        assert!(bad.parse::<Slug>().is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever is done to a profile, it is read or refused with a place inside the text.
    #[test]
    fn mutated_profiles_are_refused_in_words(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<char>(), 0..40_usize), 1..6),
    ) {
        let mut chars: Vec<char> = embedded(EMBEDDED_DEFAULT).expect("it is embedded").chars().collect();
        for (at, act, letter, count) in edits {
            let at = at.index(chars.len().max(1));
            match act {
                0 => chars.insert(at, letter),
                1 => drop(chars.drain(at..(at + count).min(chars.len()))),
                _ => {
                    let copied: Vec<_> = chars.iter().skip(at).take(count).copied().collect();
                    chars.extend(copied);
                }
            }
        }
        let text: String = chars.into_iter().collect();
        match parse(&text).and_then(|profile| profile.check(&Parts)) {
            Ok(()) => {}
            Err(Error::Profile { place, what, .. }) => {
                prop_assert!(place.line <= text.matches('\n').count() + 1, "{}", place);
                prop_assert!(!what.is_empty());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// The whole profile with more lines in `[intake]`.
fn intake(lines: &str) -> Result<Profile, Error> {
    parse(&with_line(9, Some(&format!("door = \"commitment\"\n{lines}"))))
}

#[test]
fn what_the_door_asks_for_must_make_sense() {
    let to = "fee_to = \"5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\"";
    let pattern = "pattern = \"v7|{repo:path}|{digest:sha256}\"";
    let profile = intake(&format!("source = \"plain\"\n{pattern}\nfee_rao = 7\n{to}")).expect("it is whole");
    assert_eq!((profile.intake.source, profile.intake.fee_rao), (Source::Plain, 7));
    assert_eq!(profile.intake.fee_within_blocks, 7_200);
    let plain = intake("").expect("nothing need be said");
    assert_eq!((plain.intake.source, plain.intake.pattern, plain.intake.one_per_hotkey), (Source::Sealed, None, false));
    assert!(intake("one_per_hotkey = true\nledger_from_block = 8377407").is_ok());
    for (lines, words) in [
        (pattern.to_owned(), "a source other than sealed"),
        ("source = \"plain\"".to_owned(), "needs a pattern"),
        ("source = \"open\"".to_owned(), "unknown word"),
        ("source = \"plain\"\npattern = \"v7|{repo}\"".to_owned(), "{digest:sha256}"),
        ("ledger_from_block = 7".to_owned(), "only counts with one_per_hotkey"),
        ("ledger_from_block = -1".to_owned(), "not within 0"),
        ("fee_rao = 7".to_owned(), "needs fee_to"),
        (to.to_owned(), "fee_rao above 0"),
        (format!("fee_rao = 1000000000001\n{to}"), "not within 0"),
        (format!("fee_rao = 7\n{to}\nfee_within_blocks = 0"), "not within 1"),
        ("fee_rao = 7\nfee_to = \"5Grw\"".to_owned(), "SS58"),
    ] {
        let (_code, place, what) = refused(intake(&lines));
        assert!(what.contains(words), "{lines}: {what}");
        assert!((8..=12).contains(&place.line), "{lines}: {place}");
    }
}
