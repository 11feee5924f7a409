//! The console's state: what is shown, what was typed, and what follows from either.
//!
//! Owns the state and its one transition, [`Console::take`]: an input in, effects out, nothing waited for and nothing
//! printed. Refuses to know terminals and processes: `on` carries its effects out, `view` shows it.

use std::collections::VecDeque;

use crate::cli::publish::model::STEPS;

/// Lines of the log that are kept: hours of work.
pub const LOG_LINES: usize = 10_000;
/// Characters of one line of the log: more than any of ours.
pub const LINE_CHARS: usize = 4_096;
/// Characters of the prompt: more than any command.
pub const PROMPT_CHARS: usize = 4_096;
/// Commands that are remembered.
pub const HISTORY: usize = 500;
/// Lines that the wheel moves the log by.
const WHEEL_LINES: usize = 3;

/// The commands, which are verbs of this program.
pub const COMMANDS: &[&str] = &[
    "register",
    "check",
    "publish",
    "commit",
    "commitments",
    "status",
    "why",
    "wallet",
    "metagraph",
    "profile",
    "pack",
    "doctor",
];
/// What ends the console.
const ENDS: &[&str] = &["off", "quit", "exit"];

/// What the help command says.
pub const HELP: &str = "\
register                                   a place in the subnet for the hotkey
check --path DIR                           a model here, before it is published
check --repo NAME --digest DIGEST          a model there, as the operator will see it
publish --path DIR --repo NAME             all five steps; begun again, it goes on where it was
commit --repo NAME --digest DIGEST         the last step alone
commitments --revealed                     who committed what
status, why, wallet, metagraph, profile, pack, doctor
help TOPIC                                 the handbook, a verb, or an error code
off, quit, exit                            leave; so do Ctrl+C and Ctrl+Q
y and n answer a question; PgUp, PgDn, Home, End and the wheel move the log; Up and Down bring back commands";

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// Done.
    Ok,
    /// Ended in vain.
    Failed,
}

/// A step of the checklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// How far it is.
    pub mark: Mark,
    /// What was seen.
    pub detail: String,
}

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// The end of a command.
    Enter,
    /// Takes away the character before the cursor.
    Backspace,
    /// Takes away the character at the cursor.
    Delete,
    /// Moves the cursor.
    Left,
    /// Moves the cursor.
    Right,
    /// The command before.
    Up,
    /// The command after.
    Down,
    /// The log, a page back.
    PageUp,
    /// The log, a page on.
    PageDown,
    /// The log, a line back.
    LineUp,
    /// The log, a line on.
    LineDown,
    /// The beginning of the log.
    Home,
    /// The end of the log, which is followed from then on.
    End,
    /// Empties the prompt, or says no.
    Escape,
    /// Leaves.
    Quit,
}

/// What comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A key.
    Key(Key),
    /// Text that was pasted.
    Paste(String),
    /// The wheel, upwards or downwards.
    Wheel(bool),
    /// What the running command said.
    Output(String),
    /// The running command has ended, with this exit code unless a signal ended it.
    Ended(Option<i32>),
    /// It could not be started.
    NotStarted(String),
    /// The log has so many rows of so many columns on the screen.
    Size(u16, u16),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Run a verb with these arguments.
    Start(Vec<String>),
    /// Hand this to the running command.
    Answer(String),
    /// Leave; whatever runs is ended.
    Quit,
}

/// What the running command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wants {
    /// Nothing.
    #[default]
    Nothing,
    /// A yes or a no.
    YesNo,
    /// A line that is not shown.
    Secret,
}

/// A command that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    /// The step that it is, where it is one alone.
    step: Option<usize>,
    wants: Wants,
}

/// The console.
#[derive(Debug, Clone)]
pub struct Console {
    steps: Vec<Row>,
    log: VecDeque<String>,
    /// What was said since the last line break.
    partial: String,
    text: Vec<char>,
    cursor: usize,
    history: Vec<String>,
    /// Which remembered command is shown.
    recalled: Option<usize>,
    running: Option<Running>,
    /// Screen lines between the end of the log and the end of what is shown; 0 follows.
    above: usize,
    rows: usize,
    columns: usize,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// A fresh one.
    #[must_use]
    pub fn new() -> Self {
        let steps = STEPS.iter().map(|name| Row { name, mark: Mark::Pending, detail: String::new() }).collect();
        let mut console = Self {
            steps,
            log: VecDeque::new(),
            partial: String::new(),
            text: Vec::new(),
            cursor: 0,
            history: Vec::new(),
            recalled: None,
            running: None,
            above: 0,
            rows: 1,
            columns: 80,
        };
        console.say("`help` lists the commands");
        console
    }

    /// The checklist.
    #[must_use]
    pub fn steps(&self) -> &[Row] {
        &self.steps
    }

    /// What stands in the prompt, and where its cursor is, in characters. A secret is not shown.
    #[must_use]
    pub fn prompt(&self) -> (String, usize) {
        if self.wants() == Wants::Secret { (String::new(), 0) } else { (self.text.iter().collect(), self.cursor) }
    }

    /// What the running command waits for.
    #[must_use]
    pub fn wants(&self) -> Wants {
        self.running.as_ref().map_or(Wants::Nothing, |running| running.wants)
    }

    /// Whether a command runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// How many screen lines of the log are below what is shown.
    #[must_use]
    pub const fn above(&self) -> usize {
        self.above
    }

    /// The screen lines of the log that are shown, the oldest first.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        let wanted = self.above.saturating_add(self.rows);
        let mut lines: Vec<String> = Vec::new();
        let open = (!self.partial.is_empty()).then_some(&self.partial);
        for line in open.into_iter().chain(self.log.iter().rev()) {
            lines.extend(wrapped(line, self.columns).into_iter().rev());
            if lines.len() >= wanted {
                break;
            }
        }
        lines.truncate(wanted);
        let below = self.above.min(lines.len().saturating_sub(self.rows));
        let mut shown: Vec<String> = lines.into_iter().skip(below).take(self.rows).collect();
        shown.reverse();
        shown
    }

    /// Takes one input.
    pub fn take(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Key(key) => self.key(key),
            Input::Paste(text) => {
                self.paste(&text);
                Vec::new()
            }
            Input::Wheel(is_up) => {
                self.scroll(WHEEL_LINES, is_up);
                Vec::new()
            }
            Input::Output(text) => {
                self.output(&text);
                Vec::new()
            }
            Input::Ended(exit) => {
                self.ended(exit);
                Vec::new()
            }
            Input::NotStarted(why) => {
                self.say(&format!("it could not be started: {why}"));
                self.ended(None);
                Vec::new()
            }
            Input::Size(rows, columns) => {
                (self.rows, self.columns) = (usize::from(rows).max(1), usize::from(columns).max(1));
                if self.above > 0 {
                    self.above = self.above.min(self.most_above());
                }
                Vec::new()
            }
        }
    }

    fn key(&mut self, key: Key) -> Vec<Effect> {
        match (key, self.wants()) {
            (Key::Quit, _) => return vec![Effect::Quit],
            (Key::PageUp, _) => self.scroll(self.rows, true),
            (Key::PageDown, _) => self.scroll(self.rows, false),
            (Key::LineUp, _) => self.scroll(1, true),
            (Key::LineDown, _) => self.scroll(1, false),
            (Key::Home, _) => self.above = self.most_above(),
            (Key::End, _) => self.above = 0,
            (Key::Char('y' | 'Y'), Wants::YesNo) => return self.answer("y"),
            (Key::Char('n' | 'N') | Key::Escape, Wants::YesNo) => return self.answer("n"),
            (_, Wants::YesNo) => {}
            (Key::Enter, Wants::Secret) => {
                let secret: String = std::mem::take(&mut self.text).into_iter().collect();
                self.cursor = 0;
                return self.answered(&secret, "");
            }
            (Key::Enter, Wants::Nothing) => return self.enter(),
            (Key::Up, Wants::Nothing) => self.recall(true),
            (Key::Down, Wants::Nothing) => self.recall(false),
            (edit, _) => self.edit(edit),
        }
        Vec::new()
    }

    /// A key that changes the prompt.
    fn edit(&mut self, key: Key) {
        match key {
            Key::Char(char) => self.insert(char),
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::Delete if self.cursor < self.text.len() => drop(self.text.remove(self.cursor)),
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            Key::Escape => {
                self.text.clear();
                self.cursor = 0;
            }
            _ => {}
        }
    }

    fn insert(&mut self, char: char) {
        if self.text.len() < PROMPT_CHARS && !char.is_control() {
            self.text.insert(self.cursor, char);
            self.cursor += 1;
        }
    }

    /// What is pasted runs nothing: line breaks become spaces.
    fn paste(&mut self, text: &str) {
        if self.wants() == Wants::YesNo {
            return;
        }
        let text = text.trim_end_matches(['\r', '\n']).replace("\r\n", " ");
        for char in text.chars() {
            self.insert(if matches!(char, '\r' | '\n' | '\t') { ' ' } else { char });
        }
    }

    fn recall(&mut self, is_back: bool) {
        let last = self.history.len().checked_sub(1);
        self.recalled = match (self.recalled, is_back) {
            (None, true) => last,
            (Some(at), true) => Some(at.saturating_sub(1)),
            (Some(at), false) if Some(at) < last => Some(at + 1),
            (_, false) => None,
        };
        self.text = self.recalled.map_or_else(Vec::new, |at| self.history[at].chars().collect());
        self.cursor = self.text.len();
    }

    fn enter(&mut self) -> Vec<Effect> {
        let line: String = self.text.iter().collect::<String>().trim().to_owned();
        if line.is_empty() {
            return Vec::new();
        }
        if self.is_running() && !ENDS.contains(&line.as_str()) {
            self.say("a command is running; wait for its end, or leave with Ctrl+C");
            return Vec::new();
        }
        self.text.clear();
        (self.cursor, self.recalled, self.above) = (0, None, 0);
        if self.history.last() != Some(&line) {
            self.history.push(line.clone());
        }
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
        self.say(&format!("waag> {line}"));
        self.command(&line)
    }

    fn command(&mut self, line: &str) -> Vec<Effect> {
        let mut words = match words(line) {
            Ok(words) => words,
            Err(why) => {
                self.say(why);
                return Vec::new();
            }
        };
        if words.first().is_some_and(|first| first == "waag") {
            words.remove(0);
        }
        let Some(name) = words.first().cloned() else { return Vec::new() };
        match name.as_str() {
            end if ENDS.contains(&end) => return vec![Effect::Quit],
            "help" if words.len() == 1 => {
                HELP.lines().for_each(|line| self.say(line));
                return Vec::new();
            }
            "help" => self.running = Some(Running { step: None, wants: Wants::Nothing }),
            known if COMMANDS.contains(&known) => {
                let step = step_of(&words);
                if let Some(row) = step.and_then(|step| self.steps.get_mut(step)) {
                    (row.mark, row.detail) = (Mark::Running, String::new());
                }
                self.running = Some(Running { step, wants: Wants::Nothing });
            }
            _ => {
                self.say(&format!("there is no command `{name}` here; `help` lists them"));
                return Vec::new();
            }
        }
        vec![Effect::Start(words)]
    }

    fn answer(&mut self, word: &str) -> Vec<Effect> {
        self.answered(word, word)
    }

    fn answered(&mut self, word: &str, shown: &str) -> Vec<Effect> {
        let question = std::mem::take(&mut self.partial);
        self.say(&format!("{question}{shown}"));
        if let Some(running) = &mut self.running {
            running.wants = Wants::Nothing;
        }
        vec![Effect::Answer(format!("{word}\n"))]
    }

    fn output(&mut self, text: &str) {
        for char in text.chars() {
            match char {
                '\n' => {
                    let line = std::mem::take(&mut self.partial);
                    self.read(&line);
                    self.say(&line);
                }
                // What follows is written over it.
                '\r' => self.partial.clear(),
                '\t' => self.partial.push(' '),
                control if control.is_control() => {}
                other => {
                    if self.partial.len() < LINE_CHARS {
                        self.partial.push(other);
                    }
                }
            }
        }
        if let Some(running) = &mut self.running {
            running.wants = wanted(&self.partial);
        }
    }

    /// What a line says about a step.
    fn read(&mut self, line: &str) {
        let Some((mark, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else { return };
        let (name, detail) = rest.split_once(" — ").unwrap_or((rest, ""));
        let mark = match mark {
            "RUN" => Mark::Running,
            "PASS" => Mark::Ok,
            "FAIL" => Mark::Failed,
            _ => return,
        };
        let Some(at) = self.steps.iter().position(|row| row.name == name) else { return };
        if mark == Mark::Running {
            // What comes after it is not as it was any more.
            for row in &mut self.steps[at..] {
                (row.mark, row.detail) = (Mark::Pending, String::new());
            }
        }
        (self.steps[at].mark, self.steps[at].detail) = (mark, detail.to_owned());
    }

    fn ended(&mut self, exit: Option<i32>) {
        let line = std::mem::take(&mut self.partial);
        if !line.is_empty() {
            self.say(&line);
        }
        let mark = if exit == Some(0) { Mark::Ok } else { Mark::Failed };
        let told = match exit {
            Some(0) => "done".to_owned(),
            Some(code) => format!("ended with exit code {code}"),
            None => "was ended".to_owned(),
        };
        let own = self.running.take().and_then(|running| running.step);
        for (at, row) in self.steps.iter_mut().enumerate() {
            if row.mark == Mark::Running || own == Some(at) {
                row.mark = mark;
                if row.detail.is_empty() {
                    row.detail.clone_from(&told);
                }
            }
        }
        self.say(&told);
    }

    /// A line of the log. Who reads further up stays there.
    fn say(&mut self, line: &str) {
        let line: String = line.chars().take(LINE_CHARS).collect();
        if self.above > 0 {
            self.above = self.above.saturating_add(wrapped(&line, self.columns).len());
        }
        self.log.push_back(line);
        if self.log.len() > LOG_LINES {
            self.log.pop_front();
        }
        if self.above > 0 {
            self.above = self.above.min(self.most_above());
        }
    }

    fn scroll(&mut self, lines: usize, is_up: bool) {
        self.above = if is_up {
            self.above.saturating_add(lines).min(self.most_above())
        } else {
            self.above.saturating_sub(lines)
        };
    }

    fn most_above(&self) -> usize {
        let open = (!self.partial.is_empty()).then_some(&self.partial);
        let lines: usize = self.log.iter().chain(open).map(|line| wrapped(line, self.columns).len()).sum();
        lines.saturating_sub(self.rows)
    }
}

/// Which step a command is by itself. Publishing tells its steps one by one.
fn step_of(words: &[String]) -> Option<usize> {
    let has = |flag: &str| words.iter().any(|word| word == flag || word.starts_with(&format!("{flag}=")));
    let name = match words.first()?.as_str() {
        "check" if has("--path") => "validate_local",
        "check" if has("--repo") => "check_remote",
        "register" => "registered",
        "commit" => "commit",
        _ => return None,
    };
    STEPS.iter().position(|step| *step == name)
}

/// What a command waits for that has said this without a line break.
fn wanted(partial: &str) -> Wants {
    if partial.ends_with("[y/N] ") {
        Wants::YesNo
    } else if partial.ends_with(": ") && (partial.contains("password") || partial.starts_with("the same again")) {
        Wants::Secret
    } else {
        Wants::Nothing
    }
}

/// The words of a line; quotes keep spaces.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for char in line.chars() {
        match (char, quote) {
            (close, Some(open)) if close == open => quote = None,
            (inside, Some(_)) => word.get_or_insert_default().push(inside),
            ('"' | '\'', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (other, None) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// A line in pieces of at most so many characters; an empty line is one piece.
fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let chars: Vec<char> = line.chars().collect();
    if chars.is_empty() {
        return vec![String::new()];
    }
    chars.chunks(columns.max(1)).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
