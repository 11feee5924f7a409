//! A command of the console: this very program as a child.
//!
//! Owns its streams. What it says comes by pipes, so that it draws nothing; its stdin is a terminal of its own, so that
//! it asks what it would ask anybody. Refuses to understand either. Only `on` uses it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    process::{ExitStatus, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr},
};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStderr, ChildStdout, Command},
};

/// Bytes that are read at a time.
const READ_BYTES: usize = 8 * 1024;

/// What a child did.
#[derive(Debug)]
pub enum News {
    /// It said this.
    Said(String),
    /// It has ended.
    Ended(io::Result<ExitStatus>),
}

/// A running command.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// The other end of its stdin.
    keyboard: OwnedFd,
    streams: Streams,
}

#[derive(Debug)]
struct Streams {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// Bytes of a character that has not come whole.
    rest: [Vec<u8>; 2],
}

impl Running {
    /// Starts the program.
    ///
    /// # Errors
    /// When the system gives no terminal or does not start it.
    pub fn start(program: &Path, args: &[String]) -> io::Result<Self> {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&keyboard)?;
        unlockpt(&keyboard)?;
        let name = ptsname(&keyboard, Vec::new())?;
        let stdin = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        // Nobody reads what it would show of what is typed.
        let mut quiet = tcgetattr(&stdin)?;
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &quiet)?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let streams =
            Streams { stdout: child.stdout.take(), stderr: child.stderr.take(), rest: [Vec::new(), Vec::new()] };
        Ok(Self { child, keyboard, streams })
    }

    /// Types a line.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn answer(&self, line: &str) -> io::Result<()> {
        let mut bytes = line.as_bytes();
        while !bytes.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(self.keyboard.as_fd(), bytes))?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Waits until it says something or has ended. May be given up and begun again.
    pub async fn next(&mut self) -> News {
        loop {
            let (mut said, mut complaint) = ([0; READ_BYTES], [0; READ_BYTES]);
            let Streams { stdout, stderr, rest } = &mut self.streams;
            let (from, read) = match (stdout.as_mut(), stderr.as_mut()) {
                (None, None) => return News::Ended(self.child.wait().await),
                (Some(out), None) => (0, out.read(&mut said).await),
                (None, Some(err)) => (1, err.read(&mut complaint).await),
                (Some(out), Some(err)) => tokio::select! {
                    read = out.read(&mut said) => (0, read),
                    read = err.read(&mut complaint) => (1, read),
                },
            };
            let bytes = match read {
                Ok(count) if count > 0 => {
                    if from == 0 {
                        &said[..count]
                    } else {
                        &complaint[..count]
                    }
                }
                _ if from == 0 => {
                    *stdout = None;
                    continue;
                }
                _ => {
                    *stderr = None;
                    continue;
                }
            };
            rest[from].extend_from_slice(bytes);
            return News::Said(text_of(&mut rest[from]));
        }
    }
}

/// The characters that have come whole; bytes that are none are shown as such.
fn text_of(bytes: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    let rest = bytes.split_off(whole);
    String::from_utf8_lossy(&std::mem::replace(bytes, rest)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn to_the_end(running: &mut Running, answers: &[(&str, &str)]) -> (String, Option<i32>) {
        let (mut said, mut answers) = (String::new(), answers.iter().peekable());
        loop {
            match running.next().await {
                News::Said(text) => said.push_str(&text),
                News::Ended(status) => return (said, status.unwrap().code()),
            }
            if let Some((_, answer)) = answers.next_if(|(question, _)| said.ends_with(question)) {
                running.answer(answer).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn it_has_a_terminal_to_be_asked_on_and_pipes_to_speak_by() {
        let script =
            "test -t 0 && ! test -t 1 && ! test -t 2 || exit 9; printf 'yes? ' >&2; read a; echo \"<$a>\"; exit 3";
        let args = ["-c".to_owned(), script.to_owned()];
        let mut running = Running::start(Path::new("/bin/sh"), &args).unwrap();
        assert_eq!(to_the_end(&mut running, &[("yes? ", "y\n")]).await, ("yes? <y>\n".to_owned(), Some(3)));
        assert!(Running::start(Path::new("/no/such/program"), &[]).is_err());
    }

    #[test]
    fn a_character_waits_for_its_last_byte() {
        let mut bytes = "a✓".as_bytes()[..3].to_vec();
        assert_eq!((text_of(&mut bytes).as_str(), bytes.len()), ("a", 2));
        bytes.push("✓".as_bytes()[2]);
        assert_eq!((text_of(&mut bytes).as_str(), bytes.len()), ("✓", 0));
        assert_eq!(text_of(&mut vec![0xff, b'b']), "\u{fffd}b");
    }
}
