//! `waag init`: a commented settings file to begin with.

use std::{fs, io::Write as _, path::PathBuf};

use super::{
    Context, Failure, Outcome,
    exit::{answer, note},
};
use crate::{
    config::init_text,
    fault::{Class, Code},
};

/// The settings file is there already.
pub const SETTINGS_EXIST: Code = Code::new(
    Class::Operator,
    "settings_exist",
    "the settings file is there already and is left as it is",
    "edit it, or give another name",
);

/// Arguments of `waag init`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  waag init                    write ./waag.toml
  waag init /etc/waag.toml     write another file

Every setting is there with its comment, none is set; take away the # before those that you change.")]
pub struct Args {
    /// The file to write
    #[arg(default_value = "waag.toml")]
    file: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let path = &args.file;
    let mut file = match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::named_file(SETTINGS_EXIST.because(format!("`{}`", path.display()))));
        }
        opened => opened.map_err(|source| Failure::file("create", path, &source))?,
    };
    file.write_all(init_text().as_bytes()).map_err(|source| Failure::file("write", path, &source))?;
    answer(context.json(), &serde_json::json!({ "written": path }), || path.display().to_string());
    if !context.json() {
        note("next: `waag doctor` looks at this machine, `waag up` serves the subnet");
    }
    Ok(())
}
