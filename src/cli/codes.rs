//! Every code of the program, gathered from the rooms that raise them.

use super::{appliance, collect, demo, devnet as ground, exit, init, miner, verify, wallet, weights as weights_verb};
use crate::{
    actors, artifact, auth, chain, config, dedup, devnet, engine, fault::Code, gym, intake, pipeline, server, stage,
    store, weights,
};

/// The codes of every room, in the order of the rooms.
pub fn all() -> impl Iterator<Item = &'static Code> {
    let rooms: &[&'static [Code]] = &[
        config::CODES,
        auth::CODES,
        chain::CODES,
        store::CODES,
        artifact::CODES,
        artifact::model::CODES,
        dedup::CODES,
        engine::CODES,
        stage::model::CODES,
        gym::CODES,
        weights::CODES,
        intake::CODES,
        pipeline::CODES,
        devnet::CODES,
        server::CODES,
        exit::CODES,
        miner::CODES,
        actors::WEIGHER_CODES,
        actors::WORKER_CODES,
        demo::play::CODES,
        appliance::CODES,
        weights_verb::CODES,
        collect::CODES,
    ];
    let own: &[&'static Code] = &[
        &init::SETTINGS_EXIST,
        &ground::CONTROL_REFUSED,
        &verify::ARTIFACTS_UNREADABLE,
        &wallet::SIGNATURE_WRONG,
        &stage::catalog::PART_UNUSABLE,
    ];
    rooms.iter().copied().flatten().chain(own.iter().copied()).collect::<Vec<_>>().into_iter()
}

/// The code of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Code> {
    all().find(|code| code.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_written_as_they_should_be() {
        let mut names = BTreeSet::new();
        for code in all() {
            assert!(names.insert(code.name), "{} is declared twice", code.name);
            let is_snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(code.name.chars().all(is_snake), "{}", code.name);
            for line in [code.says, code.hint] {
                let fits = !line.is_empty() && !line.contains('\n') && !line.ends_with('.');
                assert!(fits, "{}: `{line}`", code.name);
            }
        }
        assert!(names.len() > 100, "only {} codes", names.len());
    }
}
