//! The console on the screen.
//!
//! Owns where everything stands. Refuses to change anything. `on` calls it after every input.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::console::{Console, Mark, Wants};

/// What stands before the command.
const PROMPT: &str = "waag> ";
/// Lines that are not the log: header, help, two rules, the prompt.
const FIXED: u16 = 5;

/// The parts of a screen.
struct Parts {
    header: Rect,
    help: Rect,
    steps: Rect,
    rule: Rect,
    log: Rect,
    foot: Rect,
    prompt: Rect,
}

fn parts(area: Rect, steps: usize) -> Parts {
    let steps = u16::try_from(steps).unwrap_or(u16::MAX);
    let one = Constraint::Length(1);
    let [header, help, steps, rule, log, foot, prompt] =
        Layout::vertical([one, one, Constraint::Length(steps), one, Constraint::Min(1), one, one]).areas(area);
    Parts { header, help, steps, rule, log, foot, prompt }
}

/// The rows and columns that the log has on a screen of this size.
#[must_use]
pub fn log_size(columns: u16, rows: u16, steps: usize) -> (u16, u16) {
    let steps = u16::try_from(steps).unwrap_or(u16::MAX);
    (rows.saturating_sub(FIXED).saturating_sub(steps).max(1), columns.max(1))
}

/// Draws the console.
pub fn draw(frame: &mut Frame<'_>, console: &Console, place: &str) {
    let parts = parts(frame.area(), console.steps().len());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let dim = Style::new().add_modifier(Modifier::DIM);
    let header = Line::from(vec![Span::styled("waag on", bold), Span::raw("  "), Span::styled(place, dim)]);
    frame.render_widget(Paragraph::new(header), parts.header);
    let help = "publish --path DIR --repo NAME · help · off · PgUp/PgDn · Ctrl+C";
    frame.render_widget(Paragraph::new(Span::styled(help, dim)), parts.help);
    let steps: Vec<Line<'_>> = console
        .steps()
        .iter()
        .map(|row| {
            let (glyph, colour) = glyph(row.mark);
            Line::from(vec![
                Span::styled(format!(" {glyph} "), Style::new().fg(colour)),
                Span::raw(format!("{:<16}", row.name)),
                Span::styled(row.detail.clone(), dim),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(steps), parts.steps);
    let rule = "─".repeat(usize::from(parts.rule.width));
    frame.render_widget(Paragraph::new(Span::styled(rule.clone(), dim)), parts.rule);
    let log: Vec<Line<'_>> = console.shown().into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(log), parts.log);
    let foot = match console.above() {
        0 => rule,
        lines => format!("── {lines} lines below; End follows ──"),
    };
    frame.render_widget(Paragraph::new(Span::styled(foot, dim)), parts.foot);
    prompt(frame, console, parts.prompt, bold);
}

fn prompt(frame: &mut Frame<'_>, console: &Console, area: Rect, bold: Style) {
    let (text, cursor) = console.prompt();
    let (before, text) = match console.wants() {
        Wants::YesNo => ("y or n? ", String::new()),
        Wants::Secret => ("not shown: ", String::new()),
        Wants::Nothing if console.is_running() => ("… ", text),
        Wants::Nothing => (PROMPT, text),
    };
    // A command that is longer than the line shows its end.
    let room = usize::from(area.width).saturating_sub(before.chars().count() + 1);
    let skipped = cursor.saturating_sub(room);
    let shown: String = text.chars().skip(skipped).take(room).collect();
    frame.render_widget(Paragraph::new(Line::from(vec![Span::styled(before, bold), Span::raw(shown)])), area);
    let column = u16::try_from(before.chars().count() + cursor - skipped).unwrap_or(u16::MAX);
    let right = area.right().saturating_sub(1);
    frame.set_cursor_position(Position::new(area.x.saturating_add(column).min(right), area.y));
}

const fn glyph(mark: Mark) -> (&'static str, Color) {
    match mark {
        Mark::Pending => ("·", Color::DarkGray),
        Mark::Running => ("▸", Color::Yellow),
        Mark::Ok => ("✓", Color::Green),
        Mark::Failed => ("✗", Color::Red),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{
        super::console::{Input, Key},
        *,
    };

    fn screen(console: &mut Console, columns: u16, rows: u16) -> Vec<String> {
        let (log_rows, log_columns) = log_size(columns, rows, console.steps().len());
        console.take(Input::Size(log_rows, log_columns));
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, console, "subnet 7 on devnet")).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..rows).map(row).collect()
    }

    #[test]
    fn everything_has_its_place() {
        let mut console = Console::new();
        for char in "publish --path m --repo a/b".chars() {
            console.take(Input::Key(Key::Char(char)));
        }
        assert_eq!(screen(&mut console, 60, 14)[13], "waag> publish --path m --repo a/b");
        console.take(Input::Key(Key::Enter));
        console.take(Input::Output("[RUN] validate_local\n[PASS] validate_local — 3 files\n[RUN] upload\n".to_owned()));
        let shown = screen(&mut console, 60, 14);
        assert_eq!(shown[0], "waag on  subnet 7 on devnet");
        assert_eq!(shown[2], " ✓ validate_local  3 files");
        assert_eq!(shown[3], " ▸ upload");
        assert_eq!(shown[6], " · commit");
        assert_eq!(
            shown[8..12],
            [
                "waag> publish --path m --repo a/b",
                "[RUN] validate_local",
                "[PASS] validate_local — 3 files",
                "[RUN] upload"
            ]
        );
        assert_eq!(shown[13], "…");
        console.take(Input::Output("Proceed? [y/N] ".to_owned()));
        assert_eq!(screen(&mut console, 60, 14)[13], "y or n?");
    }

    #[test]
    fn no_screen_is_too_small() {
        let mut console = Console::new();
        console.take(Input::Paste("x".repeat(500)));
        for (columns, rows) in [(1, 1), (2, 3), (10, 8), (400, 100)] {
            assert_eq!(screen(&mut console, columns, rows).len(), usize::from(rows));
        }
    }
}
