//! The command line: one file a verb, each a thin face over the rooms that do the work.
//!
//! Owns arguments, the terminal, the environment and the exit codes. Refuses to decide anything about submissions,
//! rankings or weights. `main.rs` calls [`main`] and nothing else; nothing imports this room.

mod appliance;
mod args;
pub mod bench;
pub mod check;
pub mod codes;
pub mod collect;
pub mod commit;
pub mod commitments;
pub mod completions;
pub mod config;
pub mod context;
pub mod demo;
pub mod devnet;
pub mod doctor;
pub mod exit;
pub mod help;
pub mod init;
mod logging;
pub mod metagraph;
pub mod miner;
pub mod on;
pub mod pack;
pub mod password;
mod play;
pub mod profile;
pub mod progress;
pub mod publish;
pub mod register;
pub mod status;
pub mod up;
pub mod verify;
pub mod wallet;
pub mod weights;
pub mod why;
mod words;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;

pub use args::{Args, DemoArgs, Globals, UpArgs, Verb};
pub use context::{Configured, Context};
pub use exit::{Failure, Outcome};

/// Runs the program with these arguments, the first of which is its name.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Two TLS providers are linked; without a choice the first connection would panic. Only a second call can fail.
    drop(rustls::crypto::ring::default_provider().install_default());
    install_panic_hook();
    let args: Vec<OsString> = args.into_iter().collect();
    let parsed = match Args::try_parse_from(&args) {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error, &args),
    };
    let context = Context::of_process(parsed.globals);
    logging::start(&context, &parsed.verb);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let detail = format!("cannot start threads: {source}");
            return Failure::from(exit::ENDED.because(detail)).report(context.json());
        }
    };
    match runtime.block_on(dispatch(&context, parsed.verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(context.json()),
    }
}

async fn dispatch(context: &Context, verb: Verb) -> Outcome {
    match verb {
        Verb::Demo(args) => demo::run(context, &args).await,
        Verb::Up(args) => up::run(context, &args).await,
        Verb::Init(args) => init::run(context, &args),
        Verb::Config(args) => config::run(context, &args),
        Verb::Profile(args) => profile::run(context, &args),
        Verb::Devnet(args) => devnet::run(context, &args).await,
        Verb::Register(args) => register::run(context, &args).await,
        Verb::Pack(args) => pack::run(context, &args),
        Verb::Check(args) => check::run(context, &args).await,
        Verb::Commit(args) => commit::run(context, &args).await,
        Verb::Commitments(args) => commitments::run(context, &args).await,
        Verb::Publish(args) => publish::run(context, &args).await,
        Verb::On(args) => on::run(context, &args).await,
        Verb::Status(args) => status::run(context, &args).await,
        Verb::Collect(args) => collect::run(context, &args).await,
        Verb::Why(args) => why::run(context, &args).await,
        Verb::Metagraph(args) => metagraph::run(context, &args).await,
        Verb::Verify(args) => verify::run(context, &args).await,
        Verb::Weights(args) => weights::run(context, &args).await,
        Verb::Wallet(args) => wallet::run(context, &args),
        Verb::Doctor(args) => doctor::run(context, &args).await,
        Verb::Bench(args) => bench::run(context, &args).await,
        Verb::Completions(args) => completions::run(&args),
        Verb::Help(args) => help::run(context, &args),
        Verb::Play => play::run(),
    }
}

/// What could not be parsed, or the help that was asked for.
fn refuse(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let wants_json = args.iter().any(|arg| arg == "--json");
    if error.use_stderr() && wants_json {
        return Failure::usage(error.to_string().trim_end()).report(true);
    }
    // A terminal that has gone away is no failure of ours.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// A panic is a bug: say what to report, then stop at once, because nothing can be relied on any more.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        on::close();
        exit::note(format_args!("{panic}"));
        exit::note(format_args!("{}", std::backtrace::Backtrace::force_capture()));
        exit::note(format_args!(
            "\nthis is a bug in waag {} ({}, {}). Nothing recorded is lost; starting again continues the work.\n\
             Please report the lines above together with the command that was run.",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
        ));
        std::process::abort();
    }));
}
