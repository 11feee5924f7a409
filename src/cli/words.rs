//! Small words: times and texts as people read them.

use crate::clock::UnixMs;

const MS_PER_DAY: i64 = 86_400_000;

/// A time as `2026-11-21 10:35:22Z`.
#[must_use]
pub fn time_of(at_ms: UnixMs) -> String {
    let (days, in_day_ms) = (at_ms.div_euclid(MS_PER_DAY), at_ms.rem_euclid(MS_PER_DAY));
    let (year, month, day) = date_of(days);
    let seconds = in_day_ms / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Bytes as `70.0 GiB`.
#[must_use]
pub fn bytes_of(bytes: u64) -> String {
    const UNITS: &[&str] = &["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    // In tenths, rounded down: what is free is never told to be more.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The Gregorian date of a day counted from 1970-01-01, in years that begin in March, so that the leap day comes last.
const fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The beginning of a text, with a mark when there is more.
#[must_use]
pub fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_known_answers() {
        // `date -u -d @SECONDS`
        assert_eq!(time_of(0), "1970-01-01 00:00:00Z");
        assert_eq!(time_of(951_782_399_999), "2000-02-28 23:59:59Z");
        assert_eq!(time_of(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(time_of(1_795_257_322_000), "2026-11-21 10:35:22Z");
        assert_eq!(time_of(-1), "1969-12-31 23:59:59Z");
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        assert_eq!(bytes_of(1023), "1023 bytes");
        assert_eq!(bytes_of(1024), "1.0 KiB");
        assert_eq!(bytes_of(1024 * 1024 - 1), "1023.9 KiB");
        assert_eq!(bytes_of(70 << 30), "70.0 GiB");
        assert_eq!(bytes_of(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("ümlaut", 2), "üm…");
        assert_eq!(shortened("ü", 1), "ü");
    }
}
