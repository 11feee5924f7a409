//! `waag on`: the miner's console, five steps and a prompt on one screen.
//!
//! Owns the terminal while it is open, and the command that runs. Every command is a verb of this program, run as a
//! child, so that nothing is written twice. What is shown and what follows from a key is decided in `console`.

mod child;
mod console;
mod view;

use std::{
    io::{self, IsTerminal as _, Stdout},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossterm::{
    event::{
        self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event, KeyCode,
        KeyEvent, KeyEventKind, KeyModifiers, MouseEventKind,
    },
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};
use tokio::sync::mpsc;

use self::{
    child::{News, Running},
    console::{Console, Effect, Input, Key},
};
use super::{Context, Failure, Outcome, exit::ENDED};

/// How long one look for an event may take: what leaving may have to wait for.
const LOOK: Duration = Duration::from_millis(100);
/// Events that may wait: a paste on a terminal without brackets comes key by key.
const EVENTS: usize = 1_024;
/// Whether the terminal is ours at present.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Arguments of `waag on`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag on
  waag on --wallet.name miner --wallet.hotkey h1 --netuid 97

A screen with the five steps from a model's folder to its commitment, a log, and a prompt for the miner's verbs; `help` \
lists them. The flags given here count for every command. `y` and `n` answer questions; `off`, Ctrl+C or Ctrl+Q leave. \
Whatever was interrupted goes on where it was when it is begun again.")]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// When there is no terminal, or it is lost.
pub async fn run(context: &Context, _args: &Args) -> Outcome {
    if context.json() || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let why = "the console needs a terminal; in a script use `waag publish --path DIR --repo NAME --yes`";
        return Err(Failure::usage(why));
    }
    let configured = context.configured()?;
    let network = &configured.settings().network;
    let place = format!("subnet {} on {}", network.netuid, network.name);
    let program = std::env::current_exe().map_err(|source| lost(&source))?;
    let flags = context.globals.flags();
    let screen = Screen::open().map_err(|source| lost(&source))?;
    let ended = serve(screen, program, &flags, &place).await;
    close();
    ended.map_err(|source| lost(&source))
}

fn lost(source: &io::Error) -> Failure {
    ENDED.because(format!("the console's terminal: {source}")).into()
}

/// Gives the terminal back, if it was taken. A panic calls it too, so that its words can be read.
pub fn close() {
    if IS_OPEN.swap(false, Ordering::SeqCst) {
        // A terminal that has gone away needs no mending.
        drop(execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture, LeaveAlternateScreen));
        drop(disable_raw_mode());
    }
}

/// The terminal.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        IS_OPEN.store(true, Ordering::SeqCst);
        execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste)?;
        Ok(Self(Terminal::new(CrosstermBackend::new(io::stdout()))?))
    }

    /// Draws the console as large as the screen is now.
    fn draw(&mut self, console: &mut Console, place: &str) -> io::Result<()> {
        let size = self.0.size()?;
        let (rows, columns) = view::log_size(size.width, size.height, console.steps().len());
        console.take(Input::Size(rows, columns));
        self.0.draw(|frame| view::draw(frame, console, place))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        close();
    }
}

/// Takes events and what commands say, until the console is left.
async fn serve(mut screen: Screen, program: PathBuf, flags: &[String], place: &str) -> io::Result<()> {
    let mut console = Console::new();
    let mut running: Option<Running> = None;
    let mut events = Events::read();
    screen.draw(&mut console, place)?;
    loop {
        let input = tokio::select! {
            event = events.next() => match event? {
                Some(event) => event,
                None => return Ok(()),
            },
            news = next_of(&mut running) => match news {
                News::Said(text) => Input::Output(text),
                News::Ended(status) => {
                    running = None;
                    Input::Ended(status.ok().and_then(|status| status.code()))
                }
            },
        };
        for effect in console.take(input) {
            match effect {
                Effect::Start(words) => match Running::start(&program, &[words, flags.to_vec()].concat()) {
                    Ok(child) => running = Some(child),
                    Err(source) => drop(console.take(Input::NotStarted(source.to_string()))),
                },
                Effect::Answer(line) => {
                    // One that has ended meanwhile needs no answer.
                    if let Some(Err(source)) = running.as_ref().map(|running| running.answer(&line)) {
                        tracing::debug!(%source, "an answer came too late");
                    }
                }
                Effect::Quit => return Ok(()),
            }
        }
        screen.draw(&mut console, place)?;
    }
}

/// What the running command does next; without one, nothing for ever.
async fn next_of(running: &mut Option<Running>) -> News {
    match running {
        Some(running) => running.next().await,
        None => std::future::pending().await,
    }
}

/// The terminal's events, read where waiting hurts nobody.
struct Events {
    come: mpsc::Receiver<io::Result<Event>>,
    is_done: Arc<AtomicBool>,
}

impl Events {
    fn read() -> Self {
        let (send, come) = mpsc::channel(EVENTS);
        let is_done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_done);
        // Ends with the console: within one look.
        drop(tokio::task::spawn_blocking(move || {
            while !seen.load(Ordering::SeqCst) {
                let event = match event::poll(LOOK) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(source) => Err(source),
                };
                let is_last = event.is_err();
                if send.blocking_send(event).is_err() || is_last {
                    return;
                }
            }
        }));
        Self { come, is_done }
    }

    /// The next one that means something; `None` when there will be none.
    async fn next(&mut self) -> io::Result<Option<Input>> {
        while let Some(event) = self.come.recv().await {
            if let Some(input) = input_of(event?) {
                return Ok(Some(input));
            }
        }
        Ok(None)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::SeqCst);
    }
}

fn input_of(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key_of(key).map(Input::Key),
        Event::Paste(text) => Some(Input::Paste(text)),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::ScrollUp => Some(Input::Wheel(true)),
            MouseEventKind::ScrollDown => Some(Input::Wheel(false)),
            _ => None,
        },
        // The size is looked at whenever something is drawn.
        Event::Resize(..) => Some(Input::Output(String::new())),
        _ => None,
    }
}

fn key_of(key: KeyEvent) -> Option<Key> {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c' | 'q') if is_control => Key::Quit,
        KeyCode::Char(_) if is_control => return None,
        KeyCode::Up if is_control => Key::LineUp,
        KeyCode::Down if is_control => Key::LineDown,
        KeyCode::Char(char) => Key::Char(char),
        KeyCode::Enter => Key::Enter,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Esc => Key::Escape,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let of = |code, modifiers| key_of(KeyEvent::new(code, modifiers));
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        assert_eq!(of(KeyCode::Char('c'), control), Some(Key::Quit));
        assert_eq!(of(KeyCode::Char('q'), control), Some(Key::Quit));
        assert_eq!(of(KeyCode::Char('q'), none), Some(Key::Char('q')));
        assert_eq!(of(KeyCode::Char('v'), control), None);
        assert_eq!(of(KeyCode::Up, control), Some(Key::LineUp));
        assert_eq!(of(KeyCode::Up, none), Some(Key::Up));
        assert_eq!(of(KeyCode::Char('Y'), KeyModifiers::SHIFT), Some(Key::Char('Y')));
        assert_eq!(input_of(Event::Paste("a\nb".to_owned())), Some(Input::Paste("a\nb".to_owned())));
        assert_eq!(input_of(Event::FocusGained), None);
    }
}
