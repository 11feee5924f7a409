//! `waag bench duplicates`: how many disguised copies of models are found, and whether anybody is blamed wrongly.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
};

use serde::{Deserialize, Serialize};

use super::{Context, Outcome};
use crate::{
    cli::{
        Failure,
        exit::{FILE_FAILED, answer, note, table},
    },
    dedup::{
        generate::{report, synthetic},
        model::{
            Fingerprint, Key, compat,
            corpus::{Corpus, Entry, Verdict, middle},
            verdict::Relation,
        },
    },
    engine::fingerprint::{Request, headers, scan},
    ids::{Entropy as _, SystemEntropy},
};

/// Models of one corpus: every one is compared with every elder.
const MODELS_MAX: usize = 10_000;
/// Bytes of a corpus file.
const CORPUS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Experts of the generated models with experts.
const EXPERTS: usize = 8;

/// Arguments of `waag bench duplicates`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag bench duplicates                        on generated models, each disguised in every way
  waag bench duplicates --stride 8             fewer victims, sooner
  waag bench duplicates --corpus corpus.json   on checkpoints of your own
  waag bench duplicates --corpus corpus.json --json

A corpus names folders with safetensors files beside itself; `base` may be left out, `priority` is the order of \
commitment, `relation` is copy, derivative or independent:

  {\"base\": \"base\", \"models\": [
    {\"dir\": \"a\", \"owner\": \"x\", \"priority\": 1, \"relation\": \"independent\"},
    {\"dir\": \"b\", \"owner\": \"y\", \"priority\": 2, \"relation\": \"copy\", \"victim\": \"a\", \"disguise\": \"noise\"}]}")]
pub struct Args {
    /// A labelled corpus of checkpoints [default: generated ones]
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Of the generated models, disguise every so many
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), conflicts_with = "corpus")]
    stride: u16,
    /// What the generated models follow from
    #[arg(long, default_value_t = 1, conflicts_with = "corpus")]
    seed: u64,
}

/// Runs the verb.
///
/// # Errors
/// When the corpus cannot be read, or a checkpoint of it.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let mut key = [0; 32];
    SystemEntropy.fill(&mut key);
    let key = Key::new(key);
    match &args.corpus {
        Some(path) => labelled(context, path, &key),
        None => generated(context, args, &key),
    }
}

fn generated(context: &Context, args: &Args, key: &Key) -> Outcome {
    let mut reports = BTreeMap::new();
    for (name, experts) in [("with experts", EXPERTS), ("dense", 0)] {
        if !context.json() {
            note(format_args!("{name}: making models, their disguises and their fingerprints"));
        }
        let base = synthetic::base(experts, args.seed);
        let honest = synthetic::honest(&base);
        let report = report::of(&base, &honest, key, args.stride.into(), args.seed)
            .map_err(|source| FILE_FAILED.because(source.to_string()))?;
        reports.insert(name, report);
    }
    answer(context.json(), &serde_json::json!({ "duplicates": reports }), || {
        reports.iter().map(|(name, report)| in_words(name, report)).collect::<Vec<_>>().join("\n\n")
    });
    Ok(())
}

fn in_words(name: &str, report: &report::Report) -> String {
    let part = |count: usize, total: usize| format!("{count}/{total}");
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            let cells = [part(row.named, row.total), part(row.right, row.total), part(row.compatible, row.total)];
            [vec![row.disguise.clone()], cells.to_vec()].concat()
        })
        .collect();
    let table = table(&["disguise", "victim named", "rightly called", "by norms and samples"], &rows);
    format!(
        "{name}\n{table}\n{} honest pairs: {} called a copy, {} a derivative; by norms and samples {} duplicates; the \
         nearest pair is {:.3} of the elder's change apart",
        report.honest_pairs,
        report.blamed_copy,
        report.blamed_derivative,
        report.blamed_compatible,
        report.nearest_honest
    )
}

/// A labelled corpus as its file names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    /// The folder of the base.
    #[serde(default)]
    base: Option<PathBuf>,
    /// The models.
    models: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    dir: PathBuf,
    owner: String,
    priority: u64,
    relation: Expected,
    #[serde(default)]
    victim: Option<PathBuf>,
    #[serde(default)]
    disguise: Option<String>,
}

/// What a label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expected {
    Independent,
    Derivative,
    Copy,
}

impl Expected {
    const fn relation(self) -> Relation {
        match self {
            Self::Independent => Relation::Independent,
            Self::Derivative => Relation::Derivative,
            Self::Copy => Relation::Copy,
        }
    }
}

/// What was found of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Judged {
    dir: PathBuf,
    disguise: String,
    /// Whether its victim is the labelled one; none is the right one of an independent model.
    named: bool,
    /// Whether it is called what it is as well.
    right: bool,
    /// Whether the rule of norms and samples holds it for a duplicate of some elder.
    compatible: bool,
    verdict: Verdict,
}

fn labelled(context: &Context, path: &Path, key: &Key) -> Outcome {
    let about = Failure::unless_there(path)?;
    let unusable = |why: String| Failure::usage(format!("`{}`: {why}", path.display()));
    if about.len() > CORPUS_BYTES_MAX {
        return Err(unusable(format!("{} bytes; the limit is {CORPUS_BYTES_MAX}", about.len())));
    }
    let bytes = fs::read(path).map_err(|source| Failure::file("read", path, &source))?;
    let labelled: Labelled = serde_json::from_slice(&bytes).map_err(|source| unusable(source.to_string()))?;
    if labelled.models.len() > MODELS_MAX {
        return Err(unusable(format!("{} models; the limit is {MODELS_MAX}", labelled.models.len())));
    }
    let beside = path.parent().unwrap_or_else(|| Path::new(""));
    let print = |dir: &Path| fingerprint(context, &beside.join(dir), key);
    let base = labelled.base.as_deref().map(print).transpose()?;
    let prints = labelled.models.iter().map(|label| print(&label.dir)).collect::<Result<Vec<_>, _>>()?;
    let base = base.or_else(|| middle(&prints.iter().collect::<Vec<_>>()));
    let base = base.ok_or_else(|| unusable("without a base, at least 8 models of one shape are needed".to_owned()))?;
    let judged = judge(&labelled.models, &prints, &base);
    answer(context.json(), &serde_json::json!({ "models": judged }), || table_of(&labelled.models, &judged));
    Ok(())
}

fn fingerprint(context: &Context, dir: &Path, key: &Key) -> Result<Fingerprint, Failure> {
    if !context.json() {
        note(format_args!("reading {}", dir.display()));
    }
    let unreadable = |source: crate::engine::fingerprint::Error| {
        let why = std::error::Error::source(&source).map(ToString::to_string).unwrap_or_default();
        Failure::usage(format!("{source}: {why}"))
    };
    let shards = headers(dir).map_err(unreadable)?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let request = Request { folder: dir, shards: &shards, key, threads, sha256: false };
    Ok(scan(&request, &|_bytes| true).map_err(unreadable)?.fingerprint)
}

fn judge(labels: &[Label], prints: &[Fingerprint], base: &Fingerprint) -> Vec<Judged> {
    let names: Vec<String> = labels.iter().map(|label| label.dir.display().to_string()).collect();
    let entry = |at: usize| Entry {
        id: &names[at],
        owner: &labels[at].owner,
        priority: labels[at].priority,
        print: &prints[at],
    };
    let corpus = Corpus::new(base, (0..labels.len()).map(entry));
    (0..labels.len())
        .map(|at| {
            let label = &labels[at];
            let verdict = corpus.judge(&entry(at));
            let victim = label.victim.as_ref().map(|victim| victim.display().to_string());
            let named = verdict.victim == victim;
            let right = named && verdict.finding.relation == label.relation.relation();
            let is_elder =
                |other: &usize| labels[*other].priority < label.priority && labels[*other].owner != label.owner;
            let compatible = (0..labels.len())
                .filter(is_elder)
                .any(|other| compat::is_duplicate(&prints[at].layer_norms, &prints[other].layer_norms));
            let disguise = label.disguise.clone().unwrap_or_else(|| format!("{:?}", label.relation).to_lowercase());
            Judged { dir: label.dir.clone(), disguise, named, right, compatible, verdict }
        })
        .collect()
}

fn table_of(labels: &[Label], judged: &[Judged]) -> String {
    let mut sums: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    for one in judged {
        let sum = sums.entry(&one.disguise).or_default();
        let counts = [true, one.named, one.right, one.compatible];
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += usize::from(count));
    }
    let rows: Vec<Vec<String>> = sums
        .into_iter()
        .map(|(disguise, [total, named, right, compatible])| {
            let part = |count: usize| format!("{count}/{total}");
            vec![disguise.to_owned(), part(named), part(right), part(compatible)]
        })
        .collect();
    let wrongly = judged.iter().zip(labels).filter(|(one, label)| {
        label.relation == Expected::Independent && one.verdict.finding.relation != Relation::Independent
    });
    let blamed: Vec<String> = wrongly
        .map(|(one, _)| {
            let victim = one.verdict.victim.as_deref().unwrap_or("none");
            format!("blamed wrongly: {} for {victim}", one.dir.display())
        })
        .collect();
    let table = table(&["disguise", "as labelled", "rightly called", "by norms and samples"], &rows);
    [vec![table], blamed].concat().join("\n")
}
