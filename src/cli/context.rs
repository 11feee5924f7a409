//! What a verb is called with: flags, environment, and from these the settings, the chain, the wallet.
//!
//! Owns the only reads of the environment and of the home directory. Refuses to know what a verb does with them.
//! Every verb takes a [`Context`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{args::Globals, exit::Failure, password};
use crate::{
    chain::{Client, Options, Wallet},
    clock::{Clock, SystemClock},
    config::{self, Given, Loaded, Profile, Settings, Sources, profile::check_together, read_text},
    gym::isolation::Host,
    ids::SystemEntropy,
};

/// The settings file that is read when none is named.
const FILE: &str = "waag.toml";

/// What a verb is called with.
pub struct Context {
    /// The flags that every verb takes.
    pub globals: Globals,
    /// The environment, as text. Variables that are no text are nobody's setting.
    pub env: BTreeMap<String, String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for salts and keys.
    pub entropy: SystemEntropy,
}

/// Settings with the profiles that they name.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The settings with the origin of each.
    pub loaded: Loaded,
    /// The profiles of the challenges that are served.
    pub profiles: Vec<Profile>,
    /// The settings file that was read.
    pub file: Option<PathBuf>,
}

impl Configured {
    /// The settings alone.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.loaded.settings
    }
}

impl Context {
    /// The context of this process.
    #[must_use]
    pub fn of_process(globals: Globals) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { globals, env, clock: SystemClock::shared(), entropy: SystemEntropy }
    }

    /// Whether stdout is one JSON document.
    #[must_use]
    pub const fn json(&self) -> bool {
        self.globals.json
    }

    /// Reads every layer of the settings.
    ///
    /// # Errors
    /// The first mistake of any layer.
    pub fn configured(&self) -> Result<Configured, Failure> {
        self.configured_with(&[])
    }

    /// The same with further flags of the verb.
    ///
    /// # Errors
    /// The first mistake of any layer.
    pub fn configured_with(&self, more: &[Given]) -> Result<Configured, Failure> {
        let file = self.file();
        let text = file.as_deref().map(read_text).transpose().map_err(refused)?;
        let name = file.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        let flags = [self.globals.given(), more.to_vec()].concat();
        let home = self.env.get("HOME").map(Path::new);
        let sources = Sources {
            file: text.as_deref().map(|text| (name.as_str(), text)),
            env: Some(&self.env),
            flags: &flags,
            home,
            ..Sources::default()
        };
        // First without profiles, to learn which ones: they may set defaults of other settings, but not name profiles.
        let first = config::load(&sources).map_err(refused)?;
        let folder = file.as_deref().and_then(Path::parent);
        let mut profiles = Vec::new();
        for name in &first.settings.challenges {
            profiles.push(Profile::load(&beside(folder, name)).map_err(refused)?);
        }
        check_together(&profiles).map_err(refused)?;
        let loaded = config::load(&Sources { profiles: &profiles, ..sources }).map_err(refused)?;
        Ok(Configured { loaded, profiles, file })
    }

    /// The settings file: the named one, or the usual one when it is there.
    fn file(&self) -> Option<PathBuf> {
        let usual = Path::new(FILE);
        self.globals.config.clone().or_else(|| usual.exists().then(|| usual.to_owned()))
    }

    /// Connects to the chain of the settings.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn chain(&self, settings: &Settings) -> Result<Client, Failure> {
        let options = Options {
            archive: settings.archive_endpoints(),
            genesis: settings.genesis().map(|genesis| genesis.0),
            request_timeout_ms: settings.network.request_timeout_ms,
            cache: self.cache().map(|folder| folder.join("chain")),
            clock: Arc::clone(&self.clock),
            ..Options::new(settings.endpoints())
        };
        Ok(Client::connect(options).await?)
    }

    /// Where this user's programs keep what may be lost, if there is such a place.
    fn cache(&self) -> Option<PathBuf> {
        let named = self.env.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let usual = || self.env.get("HOME").map(|home| Path::new(home).join(".cache"));
        Some(named.or_else(usual)?.join("waag"))
    }

    /// The wallet of the settings, which asks for passwords where its files need one.
    ///
    /// # Errors
    /// When its names are no file names.
    pub fn wallet(&self, settings: &Settings) -> Result<Wallet, Failure> {
        let wallet = &settings.wallet;
        let passwords = self.passwords().source();
        Ok(Wallet::new(&wallet.path, &wallet.name, &wallet.hotkey)?.with_passwords(passwords))
    }

    /// What this run was given to find passwords with.
    #[must_use]
    pub fn passwords(&self) -> password::Given {
        password::Given::new(self.globals.password_file.clone(), &self.env)
    }

    /// Where policies are played that need a foreign ONNX backend: in a child of this very program.
    ///
    /// # Errors
    /// When the system does not say which program this is.
    pub fn host(&self) -> Result<Host, Failure> {
        let program = std::env::current_exe()
            .map_err(|source| super::exit::ENDED.because(format!("cannot find this program's own file: {source}")))?;
        Ok(Host { program, args: vec![super::play::VERB.into()] })
    }

    /// Where the appliance answers: as the flag says, as miners are told, or where it listens.
    #[must_use]
    pub fn api(&self, settings: &Settings) -> String {
        let listening = || format!("http://{}", settings.server.listen);
        self.globals.api.clone().or_else(|| settings.server.public_url.clone()).unwrap_or_else(listening)
    }
}

/// A path in a settings file is meant from that file's folder; the name of an embedded profile stays what it is.
fn beside(folder: Option<&Path>, name: &str) -> String {
    let is_path = name.contains('/') || Path::new(name).extension().is_some();
    match folder {
        Some(folder) if is_path && !folder.as_os_str().is_empty() => folder.join(name).display().to_string(),
        _ => name.to_owned(),
    }
}

/// Settings and profiles are files and flags of whoever called: exit code 2.
pub fn refused(error: config::Error) -> Failure {
    Failure::named_file(error.fault())
}
