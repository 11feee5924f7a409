//! The spellings that Bittensor's own tools use for the same settings.

use std::collections::BTreeMap;

use super::layers::Given;

/// One setting that Bittensor's tools know by another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// The setting.
    pub key: &'static str,
    /// The flag that help shows, without the dashes.
    pub flag: &'static str,
    /// Other spellings of the flag, accepted and not shown.
    pub aliases: &'static [&'static str],
    /// The environment variable; `WAAG__…` wins over it.
    pub variable: &'static str,
    /// What the variable was called before, where it was; the present name wins.
    pub older: Option<&'static str>,
}

/// Every setting that has such a spelling.
pub const ALIASES: &[Alias] = &[
    Alias { key: "network.netuid", flag: "netuid", aliases: &[], variable: "BT_NETUID", older: None },
    Alias {
        key: "network.name",
        flag: "subtensor.network",
        aliases: &["network", "subtensor-network", "subtensor_network"],
        variable: "BT_SUBTENSOR_NETWORK",
        older: Some("BT_NETWORK"),
    },
    Alias {
        key: "network.endpoints",
        flag: "subtensor.chain-endpoint",
        aliases: &["subtensor.chain_endpoint", "subtensor-chain-endpoint", "chain-endpoint"],
        variable: "BT_SUBTENSOR_CHAIN_ENDPOINT",
        older: Some("BT_CHAIN_ENDPOINT"),
    },
    Alias {
        key: "wallet.name",
        flag: "wallet.name",
        aliases: &["wallet-name", "wallet_name"],
        variable: "BT_WALLET_NAME",
        older: None,
    },
    Alias {
        key: "wallet.hotkey",
        flag: "wallet.hotkey",
        aliases: &["wallet-hotkey", "wallet_hotkey"],
        variable: "BT_WALLET_HOTKEY",
        older: None,
    },
    Alias {
        key: "wallet.path",
        flag: "wallet.path",
        aliases: &["wallet-path", "wallet_path"],
        variable: "BT_WALLET_PATH",
        older: None,
    },
];

/// What Bittensor's variables say. An empty variable says nothing.
pub(super) fn bittensor_env(env: &BTreeMap<String, String>) -> Vec<Given> {
    ALIASES
        .iter()
        .filter_map(|alias| {
            let said = |name: &'static str| Some((name, env.get(name).filter(|value| !value.is_empty())?));
            let (name, value) = said(alias.variable).or_else(|| alias.older.and_then(said))?;
            Some(Given::new(name, alias.key, value))
        })
        .collect()
}
