//! `waag profile`: check, show and list the files that describe challenges.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::{
    Context, Failure, Outcome,
    context::refused,
    exit::{answer, table},
};
use crate::{
    artifact::model::{architecture, codes},
    config::{
        Profile,
        profile::{check_together, embedded_names},
    },
    stage::catalog::BuiltIn,
};

/// Arguments of `waag profile`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag profile check my-challenge.toml     names the line of a mistake; exit code 2
  waag profile show NAME                   the text, word for word
  waag profile list                        what is embedded and what the settings serve
  waag profile arch-spec my-model          what a challenge fixes that begins from this model")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Clone, Subcommand)]
enum Act {
    /// Read a profile strictly: keys, values, parts and their options
    #[command(after_help = "\
Examples:
  waag profile check my-challenge.toml
  waag profile check one.toml other.toml     also whether they can share a subnet")]
    Check {
        /// The profiles' files; several are also checked together
        #[arg(required = true)]
        file: Vec<PathBuf>,
    },
    /// Print a profile
    #[command(after_help = "\
Examples:
  waag profile show NAME > my-challenge.toml
  waag profile show my-challenge.toml --json")]
    Show {
        /// An embedded name, or a file
        name: String,
    },
    /// List the embedded profiles and those of the settings
    #[command(after_help = "\
Examples:
  waag profile list
  waag profile list --config /etc/waag.toml --json")]
    List,
    /// Print the architecture that a model's config.json gives, as a profile takes it
    #[command(after_help = "\
Examples:
  waag profile arch-spec my-model >> my-challenge.toml
  waag profile arch-spec my-model --json")]
    ArchSpec {
        /// The folder of the model, or its config.json
        dir: PathBuf,
    },
}

/// Runs the verb.
///
/// # Errors
/// The first mistake, with its line.
pub fn run(context: &Context, args: &Args) -> Outcome {
    match &args.act {
        Act::Check { file } => check(context, file),
        Act::Show { name } => show(context, name),
        Act::List => list(context),
        Act::ArchSpec { dir } => arch_spec(context, dir),
    }
}

fn check(context: &Context, files: &[PathBuf]) -> Outcome {
    let mut profiles = Vec::new();
    for file in files {
        profiles.push(read(&file.display().to_string())?);
    }
    check_together(&profiles).map_err(refused)?;
    let document: Vec<_> = profiles.iter().map(json_of).collect();
    answer(context.json(), &json!({ "profiles": document }), || {
        profiles.iter().map(in_words).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// Reads a profile and checks that this program has its parts.
fn read(name_or_path: &str) -> Result<Profile, super::Failure> {
    let profile = Profile::load(name_or_path).map_err(refused)?;
    profile.check(&BuiltIn).map_err(refused)?;
    Ok(profile)
}

fn show(context: &Context, name: &str) -> Outcome {
    let profile = Profile::load(name).map_err(refused)?;
    let mut document = json_of(&profile);
    document["text"] = json!(profile.text());
    answer(context.json(), &document, || profile.text().trim_end().to_owned());
    Ok(())
}

/// The architecture of a model as the table of a profile.
fn arch_spec(context: &Context, dir: &Path) -> Outcome {
    let path = if dir.is_dir() { dir.join(architecture::FILE) } else { dir.to_owned() };
    let about = Failure::unless_there(&path)?;
    let unusable =
        |why: String| Failure::named_file(codes::ARCHITECTURE.because(format!("`{}`: {why}", path.display())));
    if about.len() > architecture::BYTES_MAX {
        return Err(unusable(format!("{} bytes; the limit is {}", about.len(), architecture::BYTES_MAX)));
    }
    let bytes = std::fs::read(&path).map_err(|source| Failure::file("read", &path, &source))?;
    let spec = architecture::Spec::of(&bytes).map_err(unusable)?;
    let table = json!({ "artifact": { "options": { "architecture": spec } } });
    let text = toml::to_string(&table).map_err(|source| unusable(source.to_string()))?;
    answer(context.json(), &spec, || text.trim_end().to_owned());
    Ok(())
}

fn list(context: &Context) -> Outcome {
    let served = context.configured()?.profiles;
    let mut rows = Vec::new();
    let mut document = Vec::new();
    for name in embedded_names() {
        let profile = Profile::load(name).map_err(refused)?;
        rows.push((profile, true));
    }
    rows.extend(
        served.iter().filter(|one| !embedded_names().any(|name| name == one.origin())).map(|one| (one.clone(), false)),
    );
    let is_served = |profile: &Profile| served.iter().any(|one| one.digest() == profile.digest());
    for (profile, embedded) in &rows {
        let mut row = json_of(profile);
        row["embedded"] = json!(embedded);
        row["served"] = json!(is_served(profile));
        document.push(row);
    }
    answer(context.json(), &json!({ "profiles": document }), || {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|(profile, embedded)| {
                let served = if is_served(profile) { "served" } else { "" };
                let origin = if *embedded { "embedded" } else { profile.origin() };
                vec![profile.slug.to_string(), origin.to_owned(), served.to_owned(), profile.title.clone()]
            })
            .collect();
        table(&["slug", "from", "settings", "title"], &rows)
    });
    Ok(())
}

fn json_of(profile: &Profile) -> serde_json::Value {
    let stages: Vec<_> = profile.stages.iter().map(|stage| json!({ "name": stage.name, "kind": stage.kind })).collect();
    json!({
        "slug": profile.slug,
        "title": profile.title,
        "share": profile.share,
        "origin": profile.origin(),
        "digest": profile.digest(),
        "artifact": profile.artifact.kind,
        "door": profile.intake.door,
        "stages": stages,
        "rule": profile.ranking.rule,
    })
}

fn in_words(profile: &Profile) -> String {
    let stages: Vec<&str> = profile.stages.iter().map(|stage| stage.name.as_str()).collect();
    format!(
        "{}: a valid profile\n  {} artifacts through the door `{}`, stages {}, ranked by `{}`, share {}",
        profile.origin(),
        profile.artifact.kind,
        profile.intake.door,
        if stages.is_empty() { "none".to_owned() } else { stages.join(" → ") },
        profile.ranking.rule,
        profile.share
    )
}
