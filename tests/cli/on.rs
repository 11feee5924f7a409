//! The console on the real binary, in a terminal of the test's own.

use std::{
    fs::File,
    io::Write as _,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::io::AsyncReadExt as _;

use super::{devnet::Devnet, folder, model, run, waag};

const ROWS: u16 = 30;
const COLUMNS: u16 = 100;
/// The longest wait for anything on the screen.
const PATIENCE: Duration = Duration::from_secs(120);

/// What stands on a screen: as much of a terminal as the console asks for.
struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// Bytes whose meaning is not yet whole.
    rest: Vec<u8>,
}

impl Screen {
    fn new() -> Self {
        let cells = vec![vec![' '; usize::from(COLUMNS)]; usize::from(ROWS)];
        Self { cells, row: 0, column: 0, rest: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        loop {
            let whole = match std::str::from_utf8(&self.rest) {
                Ok(text) => text.to_owned(),
                Err(error) => String::from_utf8(self.rest[..error.valid_up_to()].to_vec()).expect("it is valid"),
            };
            let Some(first) = whole.chars().next() else { return };
            let used = match whole.strip_prefix("\u{1b}[") {
                Some(sequence) => {
                    let Some(end) = sequence.find(|c: char| ('@'..='~').contains(&c)) else { return };
                    self.obey(&sequence[..end], sequence.as_bytes()[end]);
                    2 + end + 1
                }
                None if whole == "\u{1b}" => return,
                None => {
                    self.print(first);
                    first.len_utf8()
                }
            };
            self.rest.drain(..used);
        }
    }

    fn obey(&mut self, parameters: &str, command: u8) {
        match command {
            b'H' => {
                let mut numbers = parameters.split(';').map(|number| number.parse().unwrap_or(1_usize).max(1) - 1);
                (self.row, self.column) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            }
            b'J' => self.cells.iter_mut().for_each(|row| row.fill(' ')),
            _ => {}
        }
    }

    fn print(&mut self, char: char) {
        match char {
            '\r' => self.column = 0,
            '\n' => self.row += 1,
            control if control.is_control() => {}
            other => {
                if let Some(cell) = self.cells.get_mut(self.row).and_then(|row| row.get_mut(self.column)) {
                    *cell = other;
                }
                self.column += 1;
            }
        }
    }

    fn text(&self) -> String {
        let row = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
        self.cells.iter().map(row).collect::<Vec<_>>().join("\n")
    }
}

/// The console in its terminal.
struct Console {
    child: Child,
    keyboard: File,
    output: tokio::fs::File,
    screen: Screen,
    raw: Vec<u8>,
}

impl Console {
    fn start(dir: &Path, flags: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave: OwnedFd = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut command = Command::new(waag(dir).get_program());
        command.current_dir(dir).env_clear().env("HOME", dir).env("TERM", "xterm-256color").arg("on").args(flags);
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(master.try_clone().unwrap());
        let output = tokio::fs::File::from_std(File::from(master));
        Self { child, keyboard, output, screen: Screen::new(), raw: Vec::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until the screen is as it should be.
    async fn until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let mut bytes = [0; 4096];
        while !is_so(&self.screen.text()) {
            let read = tokio::time::timeout(PATIENCE, self.output.read(&mut bytes)).await;
            let count = match read {
                Ok(Ok(count)) if count > 0 => count,
                other => panic!("{what}: {other:?}\n{}", self.screen.text()),
            };
            self.raw.extend_from_slice(&bytes[..count]);
            self.screen.take(&bytes[..count]);
        }
    }

    async fn shows(&mut self, part: &str) {
        self.until(part, |text| text.contains(part)).await;
    }

    /// What is left to be said, and the exit code.
    async fn end(mut self) -> (String, Option<i32>) {
        drop(self.keyboard);
        let mut bytes = [0; 4096];
        // The last holder of the other end has gone when reading fails.
        while let Ok(Ok(count)) = tokio::time::timeout(PATIENCE, self.output.read(&mut bytes)).await {
            if count == 0 {
                break;
            }
            self.raw.extend_from_slice(&bytes[..count]);
        }
        (String::from_utf8_lossy(&self.raw).into_owned(), self.child.wait().unwrap().code())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_goes_through_the_steps_on_one_screen() {
    let dir = folder();
    model::model(dir.path());
    model::profile(dir.path(), "https://registry.example");
    let devnet = Devnet::start(dir.path(), &["--block-ms", "100"]);
    let mut console = Console::start(dir.path(), &devnet.flags());
    console.shows("· validate_local").await;
    console.shows("waag>").await;

    console.press("check --path model\r");
    console.shows("✓ validate_local").await;
    console.shows("[PASS] file_manifest — 2 files").await;
    console.shows("VALID").await;
    // A paste of two lines is one and runs nothing until it is asked to.
    console.press("\u{1b}[200~check --path\nnowhere\u{1b}[201~");
    console.shows("waag> check --path nowhere").await;
    console.press("\r");
    console.shows("✗ validate_local").await;
    console.shows("code: file_failed").await;

    // A question of the command is answered by a key; the flags of the console are those of the command.
    console.press("register --create\r");
    console.shows("▸ registered").await;
    console.shows("y or n?").await;
    console.press("n");
    console.shows("✗ registered").await;
    console.shows("code: not_confirmed").await;
    console.press("\u{1b}[A\r");
    console.shows("y or n?").await;
    console.press("y");
    console.shows("✓ registered").await;
    console.until("the prompt", |text| text.lines().last().is_some_and(|line| line.starts_with("waag>"))).await;

    console.press("\u{1b}[5~");
    console.shows("lines below").await;
    console.press("\u{1b}[F");
    console.until("the end of the log", |text| !text.contains("lines below")).await;
    console.press("up --dev\r");
    console.shows("there is no command `up` here").await;
    console.press("\u{3}");
    let (said, exit) = console.end().await;
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.rfind("\u{1b}[?1049l") > said.rfind("\u{1b}[?1049h"), "the terminal is given back");
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let dir = folder();
    for args in [&["on"][..], &["on", "--json"]] {
        let said = run(dir.path(), args);
        assert_eq!(said.exit, 2, "{args:?}");
        let told = format!("{}{}", said.stdout, said.stderr);
        assert!(told.contains("waag publish --path DIR --repo NAME --yes"), "{told}");
    }
}
