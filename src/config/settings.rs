//! The settings: every key, what it can be, and the structs that the rooms read.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Deserializer};

use crate::ids::Digest;

use super::{
    Error,
    error::SETTINGS_INVALID,
    layers::{Kind, Loaded, path_of},
};

/// Networks that have a name.
pub(super) const NETWORKS: &[&str] = &["devnet", "test", "finney", "archive", "local"];
/// How the address of a node begins.
pub(super) const NODE_SCHEMES: &[&str] = &["ws://", "wss://"];

/// The public node of the main network that keeps all state.
const FINNEY_ARCHIVE: &str = "wss://archive.chain.opentensor.ai:443";
/// The first block of the main network.
const FINNEY_GENESIS: Digest = digest("2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03");
/// The first block of the test network.
const TEST_GENESIS: Digest = digest("8f9cf856bf558a14440e75569c9e58594757048d7b3a84b5d25f6bd978263105");

/// Every setting. A test holds this list, the default file and the structs below together.
const KEYS: &[(&str, Kind)] = &[
    ("data_dir", Kind::Path),
    ("challenges", Kind::Texts),
    ("network.netuid", Kind::Whole(0, 65_535)),
    ("network.name", Kind::Network),
    ("network.endpoints", Kind::Urls(NODE_SCHEMES)),
    ("network.archive_endpoints", Kind::Urls(NODE_SCHEMES)),
    ("network.archive", Kind::Word(&["auto", "none"])),
    ("network.genesis", Kind::HashOrNone),
    ("network.request_timeout_ms", Kind::Whole(100, 600_000)),
    ("network.beacon", Kind::Word(&["auto", "chain", "quicknet"])),
    ("wallet.name", Kind::FileName),
    ("wallet.hotkey", Kind::FileName),
    ("wallet.path", Kind::Path),
    ("server.listen", Kind::Address),
    ("server.public_url", Kind::UrlOrNone(&["http://", "https://"])),
    ("server.connections_max", Kind::Whole(1, 65_536)),
    ("server.request_timeout_ms", Kind::Whole(100, 600_000)),
    ("server.requests_per_minute", Kind::Whole(1, 1_000_000)),
    ("store.durability", Kind::Word(&["full", "normal"])),
    ("store.blobs", Kind::Word(&["local", "s3"])),
    ("store.read_connections", Kind::Whole(1, 64)),
    ("store.s3.bucket", Kind::Text),
    ("store.s3.prefix", Kind::Text),
    ("store.s3.region", Kind::Text),
    ("store.s3.endpoint", Kind::UrlOrNone(&["http://", "https://"])),
    ("store.s3.access_key_id", Kind::Text),
    ("store.s3.secret_access_key_file", Kind::PathOrNone),
    ("fetch.addresses", Kind::Word(&["public", "any"])),
    ("fetch.username", Kind::Text),
    ("fetch.password_file", Kind::PathOrNone),
    ("slots.cpus", Kind::Whole(0, 4096)),
    ("slots.memory_mib", Kind::Whole(0, 16_777_216)),
    ("slots.disk_mib", Kind::Whole(0, 17_179_869_184)),
    ("models.grace_ms", Kind::Whole(0, 2_592_000_000)),
    ("weights.burn_uid", Kind::Whole(0, 65_535)),
    ("weights.interval_blocks", Kind::Whole(0, 1_000_000)),
    ("weights.recheck_ms", Kind::Whole(100, 3_600_000)),
    ("weights.mechanism", Kind::Whole(0, 15)),
    ("weights.commit", Kind::Word(&["auto", "timelocked", "hash"])),
    ("weights.version_key", Kind::Whole(0, i64::MAX)),
    ("onnx.library", Kind::PathOrNone),
    ("log.format", Kind::Word(&["text", "json"])),
    ("log.level", Kind::Text),
    ("devnet.listen", Kind::Address),
    ("devnet.block_ms", Kind::Whole(10, 60_000)),
    ("devnet.finality_lag_blocks", Kind::Whole(0, 100)),
];

/// What the operator says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Names or paths of the profiles that are served.
    pub challenges: Vec<String>,
    /// The chain.
    pub network: Network,
    /// Whose keys are used.
    pub wallet: Wallet,
    /// The HTTP interface.
    pub server: Server,
    /// How things are kept.
    pub store: Store,
    /// Where models are fetched from.
    pub fetch: Fetch,
    /// What evaluation may use.
    pub slots: Slots,
    /// The models that are kept.
    pub models: Models,
    /// When weights are set.
    pub weights: Weights,
    /// The ONNX backend.
    pub onnx: Onnx,
    /// What is logged.
    pub log: Log,
    /// The embedded chain.
    pub devnet: Devnet,
}

/// The chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Number of the subnet.
    pub netuid: u16,
    /// Name of the network, or the address of a node.
    pub name: String,
    /// Addresses of nodes in place of the usual ones.
    pub endpoints: Vec<String>,
    /// Addresses of nodes that keep all state, in place of the usual ones.
    pub archive_endpoints: Vec<String>,
    /// Whether an archive is asked for old state.
    pub archive: Archive,
    /// Hash of the chain's first block, where it is not that of a known network.
    #[serde(deserialize_with = "some_hash")]
    pub genesis: Option<Digest>,
    /// Milliseconds after which a request counts as failed.
    pub request_timeout_ms: u64,
    /// For which beacon weights are sealed.
    pub beacon: Beacon,
}

/// Whether an archive is asked for old state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// The ones that are named, or else the usual one of the network, where it has one.
    Auto,
    /// None is asked, whatever is named.
    None,
}

/// For which beacon weights are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Beacon {
    /// The chain's own on a devnet, quicknet elsewhere.
    Auto,
    /// The one that the chain names, by the chain's time.
    Chain,
    /// drand's quicknet, by this machine's clock.
    Quicknet,
}

/// Whose keys are used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wallet {
    /// Name of the coldkey's folder.
    pub name: String,
    /// Name of the hotkey in it.
    pub hotkey: String,
    /// The folder of wallets.
    pub path: PathBuf,
}

/// The HTTP interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port.
    pub listen: SocketAddr,
    /// The address under which miners reach it, when it is another.
    #[serde(deserialize_with = "some_text")]
    pub public_url: Option<String>,
    /// Connections at the same time.
    pub connections_max: u32,
    /// Milliseconds after which a request that is not an upload is given up.
    pub request_timeout_ms: u64,
    /// Requests of one address in a minute.
    pub requests_per_minute: u32,
}

/// What a power cut may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Nothing.
    Full,
    /// The last moments.
    Normal,
}

/// Where the bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobsIn {
    /// In the data directory.
    Local,
    /// In a bucket.
    S3,
}

/// How things are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// What a power cut may cost.
    pub durability: Durability,
    /// Where the bytes are kept.
    pub blobs: BlobsIn,
    /// Connections that read at the same time.
    pub read_connections: u32,
    /// The bucket.
    pub s3: S3,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// Its name.
    pub bucket: String,
    /// Put before every key.
    pub prefix: String,
    /// Its region.
    pub region: String,
    /// Another address than Amazon's.
    #[serde(deserialize_with = "some_text")]
    pub endpoint: Option<String>,
    /// Id of the key; without it the machine's role is used.
    #[serde(deserialize_with = "some_text")]
    pub access_key_id: Option<String>,
    /// The file with the secret key.
    #[serde(deserialize_with = "some_path")]
    pub secret_access_key_file: Option<PathBuf>,
}

/// Which machines a fetch may speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addresses {
    /// Those of the public Internet, by TLS.
    Public,
    /// Any, such as a registry on this machine.
    Any,
}

impl Addresses {
    /// Whether private addresses may be spoken to.
    #[must_use]
    pub const fn allows_private(self) -> bool {
        matches!(self, Self::Any)
    }
}

/// Where models are fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Which machines may be spoken to.
    pub addresses: Addresses,
    /// Who asks a registry that is not open to everybody.
    #[serde(deserialize_with = "some_text")]
    pub username: Option<String>,
    /// The file with the password or token for it.
    #[serde(deserialize_with = "some_path")]
    pub password_file: Option<PathBuf>,
}

/// What evaluation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// Cores; 0 for all.
    pub cpus: u32,
    /// Mebibytes of memory; 0 for all.
    pub memory_mib: u64,
    /// Mebibytes of the disk that models may take; 0 for a share of what is free.
    pub disk_mib: u64,
}

/// The models that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Milliseconds for which parts that nobody goes on with, and models of submissions that failed, are kept.
    pub grace_ms: u64,
}

/// When weights are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Receives what nobody earned.
    pub burn_uid: u16,
    /// Blocks between two settings; 0 for once an epoch.
    pub interval_blocks: u64,
    /// Milliseconds between two looks.
    pub recheck_ms: u64,
    /// The mechanism whose weights are set.
    pub mechanism: u8,
    /// How weights are hidden where the subnet wants them hidden.
    pub commit: Commit,
    /// The version key that is claimed, where the subnet asks for no higher one.
    pub version_key: u64,
}

/// How weights are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Commit {
    /// As the chain's version of commit-reveal is made for.
    Auto,
    /// Sealed; the chain opens them.
    Timelocked,
    /// By hash; this program reveals them.
    Hash,
}

/// The ONNX backend.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Onnx {
    /// Path of the library; without it only the embedded backend is there.
    #[serde(deserialize_with = "some_path")]
    pub library: Option<PathBuf>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The form of the lines.
    pub format: LogFormat,
    /// Level, or directives by module.
    pub level: String,
}

/// The embedded chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devnet {
    /// Address and port.
    pub listen: SocketAddr,
    /// Milliseconds between two blocks.
    pub block_ms: u64,
    /// Blocks by which finality follows.
    pub finality_lag_blocks: u64,
}

impl Settings {
    /// The addresses of the chain's nodes, the preferred one first.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        if !self.network.endpoints.is_empty() {
            return self.network.endpoints.clone();
        }
        let usual = match self.network.name.as_str() {
            "devnet" => format!("ws://{}", self.devnet.listen),
            "local" => "ws://127.0.0.1:9944".to_owned(),
            "test" => "wss://test.finney.opentensor.ai:443".to_owned(),
            "finney" => "wss://entrypoint-finney.opentensor.ai:443".to_owned(),
            "archive" => FINNEY_ARCHIVE.to_owned(),
            address => address.to_owned(),
        };
        vec![usual]
    }

    /// The addresses of the nodes that are asked for state that the others have discarded.
    #[must_use]
    pub fn archive_endpoints(&self) -> Vec<String> {
        if self.network.archive == Archive::None {
            return Vec::new();
        }
        if !self.network.archive_endpoints.is_empty() {
            return self.network.archive_endpoints.clone();
        }
        if self.network.name == "finney" { vec![FINNEY_ARCHIVE.to_owned()] } else { Vec::new() }
    }

    /// The hash of the chain's first block: as set, or as the named network is known to have it.
    #[must_use]
    pub fn genesis(&self) -> Option<Digest> {
        self.network.genesis.or(match self.network.name.as_str() {
            "finney" | "archive" => Some(FINNEY_GENESIS),
            "test" => Some(TEST_GENESIS),
            _ => None,
        })
    }
}

/// What a key can be; `None` for a key that does not exist.
pub(super) fn kind(key: &str) -> Option<Kind> {
    KEYS.iter().find(|(known, _)| *known == key).map(|(_, kind)| *kind)
}

/// All keys.
pub(super) fn keys() -> impl Iterator<Item = &'static str> + Clone {
    KEYS.iter().map(|(key, _)| *key)
}

/// Whether keys begin with this and a dot.
pub(super) fn is_section(key: &str) -> bool {
    keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// The names that can stand in a section; the empty one is the top of the file.
pub(super) fn names_in(section: &str) -> Vec<String> {
    let below =
        |key: &'static str| if section.is_empty() { Some(key) } else { key.strip_prefix(section)?.strip_prefix('.') };
    let mut names: Vec<String> =
        keys().filter_map(below).filter_map(|rest| rest.split('.').next()).map(ToOwned::to_owned).collect();
    names.dedup();
    names
}

/// What no single setting shows.
pub(super) fn check_sense(loaded: &Loaded) -> Result<(), Error> {
    let wrong = |key: &str, what: &str| {
        Err(Error::Settings { code: SETTINGS_INVALID, place: loaded.origin(key).to_owned(), what: what.to_owned() })
    };
    let store = &loaded.settings.store;
    if store.blobs == BlobsIn::S3 && store.s3.bucket.is_empty() {
        return wrong("store.blobs", "`store.s3.bucket` is needed with `blobs = \"s3\"`");
    }
    match (&store.s3.access_key_id, &store.s3.secret_access_key_file) {
        (Some(_), None) => wrong("store.s3.access_key_id", "`secret_access_key_file` is needed with `access_key_id`"),
        (None, Some(_)) => {
            wrong("store.s3.secret_access_key_file", "`access_key_id` is needed with `secret_access_key_file`")
        }
        _ => Ok(()),
    }
}

/// The digest of 64 lower-case hexadecimal digits, at compile time.
const fn digest(text: &str) -> Digest {
    const fn value(digit: u8) -> u8 {
        if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
    }
    let digits = text.as_bytes();
    assert!(digits.len() == 64, "a digest has 64 digits");
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = value(digits[2 * at]) << 4 | value(digits[2 * at + 1]);
        at += 1;
    }
    Digest(bytes)
}

fn some_hash<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}

fn some_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(|text| (!text.is_empty()).then_some(text))
}

fn some_path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    String::deserialize(from).map(|text| path_of(&text))
}
