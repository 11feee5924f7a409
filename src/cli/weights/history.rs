//! `waag weights history`: what was set from this data directory.

use serde_json::json;

use super::super::{
    Context, Outcome,
    exit::{answer, table},
    words::{shortened, time_of},
};
use crate::{
    fault::{Class, Code},
    pipeline::{self, StoredVector, VECTORS_MAX, stored_vectors},
    store,
};

/// Vectors that are listed unless more are asked for.
const LISTED: u32 = 20;
/// Characters of a digest that are shown: enough to tell a few hundred apart.
const DIGEST_CHARS: usize = 12;

/// The data directory's tables are those of an older program.
pub const DATABASE_OLDER: Code = Code::new(
    Class::Operator,
    "database_older",
    "the data directory is one of an older version and was not brought up to date yet",
    "start the appliance once with `waag up`, or read it with the version that wrote it",
);

/// Arguments of `waag weights history`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag weights history
  waag weights history --limit 100 --json            every column, with the vectors themselves

It reads beside a running appliance. The columns are the block of the decision, the way, the state, the blocks of \
commit and read-back, the extrinsic and the digest of the evidence: `waag verify` takes what \
`/v1/evidence/DIGEST` gives.")]
pub struct Args {
    /// How many to list
    #[arg(long, value_name = "N", default_value_t = LISTED, value_parser = clap::value_parser!(u32).range(1..=i64::from(VECTORS_MAX)))]
    limit: u32,
}

/// Runs the verb. It reads beside a running appliance.
///
/// # Errors
/// When the data directory cannot be read.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let configured = context.configured()?;
    let dir = &configured.settings().data_dir;
    let found = store::glance(dir, |conn, is_older| {
        if is_older {
            return Ok::<_, pipeline::Error>(None);
        }
        stored_vectors(conn, args.limit).map(Some)
    })?;
    let vectors = match found {
        None => Vec::new(),
        Some(Some(vectors)) => vectors,
        Some(None) => return Err(DATABASE_OLDER.because(dir.display().to_string()).into()),
    };
    answer(context.json(), &json!({ "data_dir": dir, "vectors": vectors }), || in_words(&vectors));
    Ok(())
}

fn in_words(vectors: &[StoredVector]) -> String {
    if vectors.is_empty() {
        return "no weights were set from this data directory".to_owned();
    }
    let block = |block: Option<u64>| block.map_or_else(|| "–".to_owned(), |block| block.to_string());
    let row = |one: &StoredVector| {
        vec![
            one.id.to_string(),
            time_of(one.at_ms),
            one.block.to_string(),
            one.sending.way.as_str().to_owned(),
            one.state.clone(),
            block(one.commit_block),
            block(one.confirmed_block),
            one.extrinsic.as_deref().map_or_else(|| "–".to_owned(), |hash| shortened(hash, DIGEST_CHARS)),
            shortened(&one.evidence.to_string(), DIGEST_CHARS),
        ]
    };
    let header = ["id", "decided", "block", "way", "state", "committed", "confirmed", "extrinsic", "evidence"];
    let mut text = table(&header, &vectors.iter().map(row).collect::<Vec<_>>());
    for one in vectors {
        if let Some(detail) = &one.detail {
            text.push_str(&format!("\n{}: {detail}", one.id));
        }
    }
    text
}
