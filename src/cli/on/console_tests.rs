//! The console without a terminal.

use proptest::prelude::*;

use super::*;

fn typed(console: &mut Console, text: &str) -> Vec<Effect> {
    text.chars().for_each(|char| assert_eq!(console.take(Input::Key(Key::Char(char))), []));
    console.take(Input::Key(Key::Enter))
}

fn start(words: &[&str]) -> Vec<Effect> {
    vec![Effect::Start(words.iter().map(|word| (*word).to_owned()).collect())]
}

fn said(console: &mut Console, text: &str) {
    assert_eq!(console.take(Input::Output(text.to_owned())), []);
}

fn marks(console: &Console) -> Vec<Mark> {
    console.steps().iter().map(|row| row.mark).collect()
}

#[test]
fn a_publication_moves_the_checklist() {
    use Mark::{Failed, Ok, Pending, Running};

    let mut console = Console::new();
    let effects = typed(&mut console, "publish --path 'my model' --repo a/b");
    assert_eq!(effects, start(&["publish", "--path", "my model", "--repo", "a/b"]));
    said(&mut console, "[RUN] validate_local\n[PASS] file_manifest — 3 files\n[PA");
    assert_eq!(marks(&console), [Running, Pending, Pending, Pending, Pending]);
    said(&mut console, "SS] validate_local — 3 files\n[RUN] upload\n");
    assert_eq!(marks(&console), [Ok, Running, Pending, Pending, Pending]);
    assert_eq!(console.steps()[0].detail, "3 files");
    said(&mut console, "[FAIL] upload — no route\n");
    console.take(Input::Ended(Some(5)));
    assert_eq!(marks(&console), [Ok, Failed, Pending, Pending, Pending]);
    assert_eq!(console.steps()[1].detail, "no route");
    // Begun again, what comes after the step is not as it was.
    typed(&mut console, "publish --path m --repo a/b");
    said(&mut console, "[RUN] validate_local\n");
    assert_eq!(marks(&console), [Running, Pending, Pending, Pending, Pending]);
    console.take(Input::Ended(None));
    assert_eq!(marks(&console)[0], Failed);
}

#[test]
fn a_step_alone_is_marked_by_its_end() {
    let mut console = Console::new();
    for (line, step) in [
        ("check --path m", 0),
        ("check --repo a/b --digest x", 2),
        ("waag register --yes", 3),
        ("commit --repo=a/b --digest=x", 4),
    ] {
        assert!(matches!(typed(&mut console, line)[..], [Effect::Start(_)]), "{line}");
        assert_eq!(console.steps()[step].mark, Mark::Running);
        console.take(Input::Ended(Some(i32::from(step == 4))));
        assert_eq!(console.steps()[step].mark, if step == 4 { Mark::Failed } else { Mark::Ok });
    }
    assert_eq!(marks(&console)[1], Mark::Pending);
}

#[test]
fn a_question_is_answered_by_a_key_and_by_nothing_else() {
    let mut console = Console::new();
    typed(&mut console, "register");
    said(&mut console, "it costs much\npay? [y/N] ");
    assert_eq!(console.wants(), Wants::YesNo);
    for key in [Key::Char('x'), Key::Enter, Key::Up, Key::Backspace] {
        assert_eq!(console.take(Input::Key(key)), []);
    }
    console.take(Input::Paste("y\n".to_owned()));
    assert_eq!((console.wants(), console.prompt().0), (Wants::YesNo, String::new()));
    assert_eq!(console.take(Input::Key(Key::Char('Y'))), [Effect::Answer("y\n".to_owned())]);
    assert_eq!(console.wants(), Wants::Nothing);
    console.take(Input::Size(50, 80));
    assert!(console.shown().contains(&"pay? [y/N] y".to_owned()));
    said(&mut console, "again? [y/N] ");
    assert_eq!(console.take(Input::Key(Key::Escape)), [Effect::Answer("n\n".to_owned())]);
}

#[test]
fn a_password_is_handed_on_and_never_shown() {
    let mut console = Console::new();
    console.take(Input::Size(50, 80));
    typed(&mut console, "register");
    said(&mut console, "password of w/coldkey: ");
    assert_eq!(console.wants(), Wants::Secret);
    "s3cret".chars().for_each(|char| drop(console.take(Input::Key(Key::Char(char)))));
    assert_eq!(console.prompt(), (String::new(), 0));
    assert_eq!(console.take(Input::Key(Key::Enter)), [Effect::Answer("s3cret\n".to_owned())]);
    console.take(Input::Ended(Some(0)));
    console.take(Input::Key(Key::Up));
    assert_eq!(console.prompt().0, "register", "it is in no history");
    assert!(console.shown().iter().all(|line| !line.contains("s3cret")));
}

#[test]
fn commands_are_remembered_and_edited() {
    let mut console = Console::new();
    for line in ["check --path a", "check --path b"] {
        typed(&mut console, line);
        console.take(Input::Ended(Some(0)));
    }
    let prompt = |console: &mut Console, key| {
        console.take(Input::Key(key));
        console.prompt().0
    };
    assert_eq!(prompt(&mut console, Key::Up), "check --path b");
    assert_eq!(prompt(&mut console, Key::Up), "check --path a");
    assert_eq!(prompt(&mut console, Key::Up), "check --path a");
    assert_eq!(prompt(&mut console, Key::Down), "check --path b");
    assert_eq!(prompt(&mut console, Key::Backspace), "check --path ");
    console.take(Input::Key(Key::Left));
    assert_eq!(prompt(&mut console, Key::Char('x')), "check --pathx ");
    assert_eq!(prompt(&mut console, Key::Delete), "check --pathx");
    assert_eq!(prompt(&mut console, Key::Down), "");
    assert_eq!(typed(&mut console, "   "), []);
}

#[test]
fn pasted_lines_become_one_and_run_nothing() {
    let mut console = Console::new();
    console.take(Input::Paste("check\n--path\r\nm\u{1b}\n".to_owned()));
    assert_eq!(console.prompt().0, "check --path m");
    assert!(!console.is_running());
    console.take(Input::Paste("x".repeat(PROMPT_CHARS * 2)));
    assert_eq!(console.prompt().0.chars().count(), PROMPT_CHARS);
}

#[test]
fn it_is_left_by_words_and_keys_also_while_something_runs() {
    for word in ["off", "quit", "exit"] {
        assert_eq!(typed(&mut Console::new(), word), [Effect::Quit]);
    }
    let mut console = Console::new();
    typed(&mut console, "status");
    assert_eq!(typed(&mut console, "status"), [], "one at a time");
    console.take(Input::Key(Key::Escape));
    assert_eq!(typed(&mut console, "off"), [Effect::Quit]);
    assert_eq!(console.take(Input::Key(Key::Quit)), [Effect::Quit]);
}

#[test]
fn what_is_no_command_is_said() {
    let mut console = Console::new();
    console.take(Input::Size(50, 80));
    for (line, word) in [("up --dev", "no command `up`"), ("on", "no command `on`"), ("check 'a", "not closed")] {
        assert_eq!(typed(&mut console, line), [], "{line}");
        assert!(console.shown().iter().any(|shown| shown.contains(word)), "{line}");
    }
    assert_eq!(typed(&mut console, "help"), []);
    assert!(console.shown().iter().any(|line| line.starts_with("register ")));
    assert_eq!(typed(&mut console, "help publish"), start(&["help", "publish"]));
}

#[test]
fn the_log_scrolls_and_follows_again_at_its_end() {
    let mut console = Console::new();
    console.take(Input::Size(3, 10));
    typed(&mut console, "status");
    (0..20).for_each(|line| said(&mut console, &format!("line {line}\n")));
    assert_eq!(console.shown(), ["line 17", "line 18", "line 19"]);
    console.take(Input::Key(Key::PageUp));
    assert_eq!(console.shown(), ["line 14", "line 15", "line 16"]);
    said(&mut console, "line 20\n");
    assert_eq!(console.shown(), ["line 14", "line 15", "line 16"], "who reads stays there");
    console.take(Input::Wheel(false));
    console.take(Input::Key(Key::LineDown));
    assert_eq!((console.shown()[2].as_str(), console.above()), ("line 20", 0));
    console.take(Input::Key(Key::Home));
    assert_eq!(console.shown()[0], "`help` lis", "the first line, over the width");
    console.take(Input::Key(Key::End));
    said(&mut console, "0123456789ab\n");
    assert_eq!(console.shown(), ["line 20", "0123456789", "ab"]);
    // A progress line is written over, and hostile bytes stay outside.
    said(&mut console, "10 %\r20 %\u{1b}[2J");
    assert_eq!(console.shown()[2], "20 %[2J");
}

#[test]
fn the_log_is_bounded_at_the_edge() {
    let mut console = Console::new();
    console.take(Input::Size(1, 80));
    typed(&mut console, "status");
    (0..LOG_LINES + 5).for_each(|line| said(&mut console, &format!("{line}\n")));
    console.take(Input::Key(Key::Home));
    assert_eq!(console.shown(), ["5"]);
    assert_eq!(console.log.len(), LOG_LINES);
    said(&mut console, &"x".repeat(LINE_CHARS * 3));
    assert_eq!(console.partial.len(), LINE_CHARS);
}

proptest! {
    /// Whatever comes, the state stays one that can be shown.
    #[test]
    fn no_input_breaks_it(inputs in proptest::collection::vec((0_u8..24, "\\PC{0,12}|\\[RUN\\] upload\n|a\\? \\[y/N\\] |password: "), 0..60)) {
        let mut console = Console::new();
        for (kind, text) in inputs {
            let keys = [
                Key::Enter, Key::Backspace, Key::Delete, Key::Left, Key::Right, Key::Up, Key::Down, Key::PageUp,
                Key::PageDown, Key::LineUp, Key::LineDown, Key::Home, Key::End, Key::Escape, Key::Quit, Key::Char('y'),
            ];
            let input = match kind {
                0 => Input::Paste(text),
                1 => Input::Output(text),
                2 => Input::Ended(Some(0)),
                3 => Input::Ended(None),
                4 => Input::Size(u16::try_from(text.len()).unwrap_or(1), 7),
                5 => Input::Wheel(text.len() % 2 == 0),
                6 => Input::NotStarted(text),
                7 => Input::Paste("publish --path a --repo b/c".to_owned()),
                other => Input::Key(keys[usize::from(other - 8)]),
            };
            let was_running = console.is_running();
            for effect in console.take(input) {
                match effect {
                    Effect::Start(words) => prop_assert!(!was_running && console.is_running() && !words.is_empty()),
                    Effect::Answer(line) => prop_assert!(was_running && line.ends_with('\n')),
                    Effect::Quit => {}
                }
            }
            prop_assert!(console.shown().len() <= console.rows);
            prop_assert!(console.prompt().1 <= PROMPT_CHARS && console.cursor <= console.text.len());
            prop_assert_eq!(console.steps().len(), 5);
        }
    }
}
