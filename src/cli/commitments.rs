//! `waag commitments`: who committed what, when it was first seen, and whether it counts.

use std::collections::{BTreeMap, BTreeSet};

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use serde_json::json;

use super::{
    Configured, Context, Failure, Outcome, appliance,
    exit::{answer, note, table},
};
use crate::{
    actors::{Rescanned, rescan},
    chain::{BlockRef, Client, Field, Metagraph, RevealedCommitment, SeenCommitment, lossless_text},
    ids::{Hotkey, Priority},
    intake::{Form, Forms, Reading, Registration, read_commitments},
    pipeline::{self, Gap},
    store,
};

/// Characters of a field in a table.
const SHOWN_CHARS: usize = 40;

/// Arguments of `waag commitments`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag commitments                          what stands on chain in the subnet, and what of it counts
  waag commitments --revealed               also what was behind time locks and is open now
  waag commitments --of 5F… --json
  waag commitments --rescan --from 4000000  read old blocks again, and say which cannot be read

What is listed stands at the newest final block. `first seen` is what the database of this machine's appliance knows; \
without one the column is empty. `--rescan` writes into that database, so that the appliance must be stopped; it needs \
a node that keeps old state.")]
pub struct Args {
    /// Only the commitments of this hotkey
    #[arg(long, value_name = "SS58")]
    of: Option<Hotkey>,
    /// Also what the chain has opened: the last ten of each hotkey
    #[arg(long)]
    revealed: bool,
    /// Read old blocks again: an earlier first sighting is found, and gaps are closed
    #[arg(long, conflicts_with_all = ["of", "revealed"])]
    rescan: bool,
    /// The first block of the re-scan [default: the first one that could not be read]
    #[arg(long, value_name = "BLOCK", requires = "rescan")]
    from: Option<u64>,
    /// The last block of the re-scan [default: the last one that the appliance took in]
    #[arg(long, value_name = "BLOCK", requires = "rescan")]
    to: Option<u64>,
}

/// Runs the verb.
///
/// # Errors
/// When the chain or the database cannot be read.
pub async fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let client = context.chain(configured.settings()).await?;
    if args.rescan {
        return read_again(context, &configured, &client, args).await;
    }
    list(context, &configured, &client, args).await
}

/// One field, or one thing that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    hotkey: Hotkey,
    /// `None` when it is not registered.
    uid: Option<u16>,
    registered_since: Option<u64>,
    /// The block of the hotkey's last commitment, or the one in which the chain opened it.
    block: u64,
    kind: String,
    /// The content, so that its bytes can be had again.
    content: String,
    /// The challenge that it is for.
    challenge: Option<String>,
    /// Where it was first seen; an index of 4294967295 says that only the block is known.
    first_seen: Option<Priority>,
    counts: bool,
    /// The code of why it does not count.
    why_not: Option<String>,
}

/// What the rows are judged by.
struct Judge {
    forms: Forms,
    registered: BTreeMap<Hotkey, Registration>,
    once: BTreeSet<String>,
}

impl Judge {
    fn new(configured: &Configured, metagraph: &Metagraph) -> Self {
        let forms = configured.profiles.iter().map(|profile| {
            let form = Form { source: profile.intake.source, pattern: profile.intake.pattern.clone() };
            (profile.slug.to_string(), form)
        });
        let once = configured.profiles.iter().filter(|profile| profile.intake.one_per_hotkey);
        let registered = metagraph.neurons.iter().map(|neuron| {
            let one = Registration { uid: neuron.uid, since_block: neuron.registered_at, coldkey: neuron.coldkey };
            (neuron.hotkey, one)
        });
        Self {
            forms: forms.collect(),
            once: once.map(|profile| profile.slug.to_string()).collect(),
            registered: registered.collect(),
        }
    }

    fn row(&self, hotkey: Hotkey, block: u64, kind: &str, content: String) -> Row {
        let registration = self.registered.get(&hotkey);
        Row {
            hotkey,
            uid: registration.map(|one| one.uid),
            registered_since: registration.map(|one| one.since_block),
            block,
            kind: kind.to_owned(),
            content,
            challenge: None,
            first_seen: None,
            counts: false,
            why_not: None,
        }
    }

    /// The rows of one hotkey's commitment. Each field is read together with those before it, as the door does.
    fn commitment(&self, hotkey: Hotkey, block: u64, fields: &[Field]) -> Vec<Row> {
        let read = |count: usize| {
            let fields = fields[..count].to_vec();
            let made = SeenCommitment { hotkey, block, extrinsic_index: u32::MAX, fields };
            read_commitments(&[made], &[], &self.forms, &self.registered)
        };
        let mut rows = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            let row = self.row(hotkey, block, field.kind(), lossless_text(field.content()));
            rows.push(judged(row, &read(index), &read(index + 1)));
        }
        rows
    }

    fn revealed(&self, one: &RevealedCommitment) -> Row {
        let row = self.row(one.hotkey, one.block, "Revealed", lossless_text(one.payload()));
        let reading = read_commitments(&[], std::slice::from_ref(one), &self.forms, &self.registered);
        judged(row, &Reading::default(), &reading)
    }
}

/// The row with what the last field added to a reading.
fn judged(mut row: Row, before: &Reading, after: &Reading) -> Row {
    let refusal = after.refusals.get(before.refusals.len());
    let fact = after.facts.get(before.facts.len());
    row.counts = after.sightings.len() > before.sightings.len();
    row.why_not = refusal.map(|refusal| refusal.fault.code.clone());
    row.challenge = match (fact, refusal) {
        (Some(fact), _) => Some(fact.challenge.clone()),
        (None, Some(refusal)) if !refusal.challenge.is_empty() => Some(refusal.challenge.clone()),
        _ => None,
    };
    row
}

async fn list(context: &Context, configured: &Configured, client: &Client, args: &Args) -> Outcome {
    let settings = configured.settings();
    let netuid = settings.network.netuid;
    let head = client.finalized_head().await?;
    let metagraph = client.metagraph(netuid, head.hash).await?;
    let judge = Judge::new(configured, &metagraph);
    let mut rows = Vec::new();
    for stored in client.commitments(netuid, head.hash).await? {
        rows.extend(judge.commitment(stored.hotkey, stored.block, &stored.fields));
    }
    if args.revealed {
        rows.extend(client.revealed(netuid, head.hash).await?.iter().map(|one| judge.revealed(one)));
    }
    rows.retain(|row| args.of.is_none_or(|of| of == row.hotkey));
    rows.sort_by_key(|row| (row.block, row.uid, row.hotkey));
    let gaps = store::glance(&settings.data_dir, |conn, is_older| {
        // The tables of an older program are others: the chain alone is told then.
        if is_older {
            return Ok(Vec::new());
        }
        for row in &mut rows {
            from_database(conn, &judge.once, row)?;
        }
        pipeline::gaps_of(conn, netuid)
    })?;
    tell(context, netuid, &head, &rows, &gaps.unwrap_or_default());
    Ok(())
}

/// What the appliance's database knows of a field: where it was first seen, and what stands against it there.
fn from_database(conn: &rusqlite::Connection, once: &BTreeSet<String>, row: &mut Row) -> Result<(), pipeline::Error> {
    let Some(challenge) = &row.challenge else { return Ok(()) };
    row.first_seen = pipeline::first_of(conn, challenge, &row.hotkey, &row.content)?;
    if row.counts && once.contains(challenge) {
        let used = pipeline::used_in(conn, challenge, &row.hotkey)?;
        let own = used.as_ref().and_then(|used| used.submission);
        // What used the hotkey up counted itself.
        let is_itself =
            own.is_some() && row.first_seen.map(|first| first.block) == used.as_ref().map(|used| used.block);
        if let Some(used) = used.filter(|_| !is_itself) {
            row.counts = false;
            row.why_not = Some(used.fault().code);
        }
    }
    Ok(())
}

fn tell(context: &Context, netuid: u16, head: &BlockRef, rows: &[Row], gaps: &[Gap]) {
    let document = json!({
        "netuid": netuid, "block": head.number, "hash": head.hash, "commitments": rows, "gaps": gaps,
    });
    answer(context.json(), &document, || {
        let mut text = format!("subnet {netuid} at block {}\n", head.number);
        text.push_str(&in_words(rows));
        for gap in gaps {
            text.push_str(&format!("\nblocks {} to {} could not be read", gap.from, gap.to));
        }
        text
    });
}

fn in_words(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no commitments".to_owned();
    }
    let number = |number: Option<u64>| number.map_or_else(|| "–".to_owned(), |number| number.to_string());
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let first = row.first_seen.map_or_else(
                || "–".to_owned(),
                |first| match first.index {
                    u32::MAX => first.block.to_string(),
                    index => format!("{}/{index}", first.block),
                },
            );
            let counts = if row.counts { "yes" } else { row.why_not.as_deref().unwrap_or("no") };
            vec![
                row.hotkey.short(),
                number(row.uid.map(u64::from)),
                number(row.registered_since),
                row.block.to_string(),
                first,
                row.kind.clone(),
                row.challenge.clone().unwrap_or_else(|| "–".to_owned()),
                counts.to_owned(),
                shown(&row.content),
            ]
        })
        .collect();
    let header = ["hotkey", "uid", "since", "block", "first seen", "kind", "challenge", "counts", "content"];
    table(&header, &lines)
}

/// The beginning of a content, without control characters.
fn shown(content: &str) -> String {
    let mut text: String = content.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if content.chars().count() > SHOWN_CHARS {
        text.push('…');
    }
    text
}

async fn read_again(context: &Context, configured: &Configured, client: &Client, args: &Args) -> Outcome {
    let netuid = configured.settings().network.netuid;
    let pipeline = appliance::pipeline(context, configured).await?;
    let head = client.finalized_head().await?.number;
    let taken = pipeline.read_to(netuid).await?.map(|(block, _)| block);
    let to = args.to.or(taken).unwrap_or(head).min(head);
    let gap = pipeline.gaps(netuid).await?.first().map(|gap| gap.from);
    let from = args
        .from
        .or(gap)
        .ok_or_else(|| Failure::usage("there is no gap; say with `--from BLOCK` where to begin reading again"))?;
    if from > to || from == 0 {
        return Err(Failure::usage(format!("the re-scan would go from block {from} to block {to}")));
    }
    let bar = bar(context.json(), to - from + 1);
    let told = |block: u64| bar.set_position(block.saturating_sub(from));
    let done = rescan(client, netuid, &pipeline, from, to, &told).await;
    bar.finish_and_clear();
    let done = done.map_err(|error| error.fault())?;
    answer(context.json(), &done, || rescanned_in_words(&done));
    if let Some(fault) = done.archive.as_ref().filter(|_| !context.json()) {
        note(format!("{}: {}; {}", fault.code, fault.detail, fault.hint));
    } else if !context.json() && !done.gaps.is_empty() {
        note("a node that keeps old state (an archive endpoint) can close these gaps");
    }
    Ok(())
}

fn bar(json: bool, blocks: u64) -> ProgressBar {
    // On anything but a terminal a bar draws nothing by itself.
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    ProgressBar::with_draw_target(Some(blocks), target)
}

fn rescanned_in_words(done: &Rescanned) -> String {
    let mut lines = vec![
        format!("blocks {} to {}: {} read", done.from, done.to, done.blocks_read),
        format!("{} commitments and {} opened time locks in them", done.commitments, done.reveals),
        format!("{} fields were new, {} had been there earlier than was known", done.sighted.new, done.sighted.earlier),
        format!("{} submissions came of what still stands", done.submissions),
    ];
    if done.history > 0 {
        lines.push(format!("{} hotkeys are used up by their history", done.history));
    }
    if done.gaps.is_empty() {
        lines.push("no gap remains".to_owned());
    } else {
        let rows: Vec<Vec<String>> = done
            .gaps
            .iter()
            .map(|gap| [gap.from, gap.to, gap.to - gap.from + 1].iter().map(ToString::to_string).collect())
            .collect();
        lines.push(format!("gaps that remain:\n{}", table(&["from", "to", "blocks"], &rows)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_judged_with_those_before_it_in_its_commitment() {
        let (registered, stranger) = (Hotkey([1; 32]), Hotkey([2; 32]));
        let judge = Judge {
            forms: Forms::from([("gym".to_owned(), Form::default())]),
            once: BTreeSet::new(),
            registered: BTreeMap::from([(registered, Registration { uid: 3, since_block: 10, coldkey: stranger })]),
        };
        let seal = |digit: &str| Field::Raw(format!("waag1:gym:{}", digit.repeat(64)).into_bytes());
        let fields = [Field::Raw(vec![0xff]), seal("a"), seal("b")];
        let rows = judge.commitment(registered, 20, &fields);
        let of = |row: &Row| (row.kind.clone(), row.challenge.clone(), row.counts, row.why_not.clone());
        let gym = || Some("gym".to_owned());
        assert_eq!(of(&rows[0]), ("Raw".into(), None, false, None));
        assert_eq!(rows[0].content, "0xff");
        assert_eq!(of(&rows[1]), ("Raw".into(), gym(), true, None));
        assert_eq!(of(&rows[2]), ("Raw".into(), gym(), false, Some("commitment_duplicate".into())));
        assert_eq!((rows[1].uid, rows[1].registered_since), (Some(3), Some(10)));
        let old = judge.commitment(registered, 9, &fields[1..2]);
        assert_eq!(of(&old[0]), ("Raw".into(), gym(), false, Some("commitment_before_registration".into())));
        let gone = judge.commitment(stranger, 20, &fields[1..2]);
        assert_eq!((gone[0].uid, gone[0].why_not.as_deref()), (None, Some("hotkey_unregistered")));
        assert!(in_words(&rows).lines().count() == 5 && !shown("a\u{1b}b").contains('\u{1b}'));
    }
}
