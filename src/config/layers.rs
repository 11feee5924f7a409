//! The layers of the settings, each checked where it was written before any is put over another.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use config::{Source, Value as Layered, ValueKind};

use super::{
    Error, PROFILE_SECTIONS, Profile,
    bittensor::bittensor_env,
    error::{PROFILE_INVALID, PROFILE_UNKNOWN_KEY, SETTINGS_INVALID, SETTINGS_SYNTAX, SETTINGS_UNKNOWN_KEY},
    place::{Document, Step, hint},
    settings::{self, Settings},
};
use crate::limits::CONFIG_FILE_BYTES;

/// The embedded defaults.
const DEFAULTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/settings.default.toml"));

/// Before the names of the variables that are settings.
const VARIABLE_PREFIX: &str = "WAAG__";

/// Bytes of one value from the environment or a flag: the longest path of any system.
const VALUE_BYTES: usize = 4096;

/// Values that one list can have.
const LIST_ITEMS: usize = 64;

/// What a setting can be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Any text, also none.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number within these bounds.
    Whole(i64, i64),
    /// A path; `~/` is the home directory.
    Path,
    /// A path, or nothing.
    PathOrNone,
    /// The name of a file or folder, without a way to it.
    FileName,
    /// An address and a port.
    Address,
    /// An address that begins with one of these, or nothing.
    UrlOrNone(&'static [&'static str]),
    /// The name of a network, or the address of a node.
    Network,
    /// 32 bytes in hexadecimal digits, with or without 0x before them, or nothing.
    HashOrNone,
    /// Several texts.
    Texts,
    /// Several addresses that begin with one of these.
    Urls(&'static [&'static str]),
}

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Several texts.
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// As it stands in a settings file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", toml::Value::from(text.as_str())),
            Self::Whole(number) => write!(f, "{number}"),
            Self::List(items) => write!(f, "{}", toml::Value::from(items.clone())),
        }
    }
}

impl From<Value> for ValueKind {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => text.into(),
            Value::Whole(number) => number.into(),
            Value::List(items) => items.into(),
        }
    }
}

/// A setting that was given by itself: a variable or a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// How it was given: `--netuid`, `BT_NETUID`.
    pub name: String,
    /// Which setting.
    pub key: String,
    /// Its value as text; a list is separated by commas.
    pub value: String,
}

impl Given {
    /// A setting with this value, given in this way.
    #[must_use]
    pub fn new(name: &str, key: &str, value: &str) -> Self {
        Self { name: name.to_owned(), key: key.to_owned(), value: value.to_owned() }
    }
}

/// Everything that settings are made from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// The profiles that are served; they may set defaults.
    pub profiles: &'a [Profile],
    /// The settings file: its name and text.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment; only variables that are settings are looked at.
    pub env: Option<&'a BTreeMap<String, String>>,
    /// The flags.
    pub flags: &'a [Given],
    /// What `~/` means.
    pub home: Option<&'a Path>,
}

/// One setting as it stands in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The setting: `network.netuid`.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Where it came from: `default`, `waag.toml:3:1`, `BT_NETUID`, `--netuid`.
    pub origin: String,
}

/// The settings, and where each came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Every value with its origin, in the order of the keys.
    pub values: Vec<Shown>,
}

impl Loaded {
    /// Where a setting came from; for a message about it.
    #[must_use]
    pub fn origin(&self, key: &str) -> &str {
        self.values.iter().find(|shown| shown.key == key).map_or("default", |shown| &shown.origin)
    }
}

/// The text of a new settings file: every setting with its comment, none set, so that later defaults take effect.
#[must_use]
pub fn init_text() -> String {
    let line = |line: &str| {
        let is_setting = line.contains(" = ") && !line.starts_with('#');
        format!("{}{line}\n", if is_setting { "# " } else { "" })
    };
    DEFAULTS.lines().map(line).collect()
}

/// Puts the layers over one another: defaults, profiles, file, environment, flags.
///
/// # Errors
/// The first mistake of any layer, with its file and line, variable or flag.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Error> {
    // Without a home directory the default stays as it is written; whoever needs it will miss the folder `~`.
    let home = sources.home.unwrap_or(Path::new("~"));
    let mut defaults = Reader { home: Some(home) }.text("default", DEFAULTS)?;
    defaults.iter_mut().for_each(|shown| "default".clone_into(&mut shown.origin));

    let reader = Reader { home: sources.home };
    let mut layers = vec![defaults, reader.profiles(sources.profiles)?];
    if let Some((origin, text)) = sources.file {
        layers.push(reader.text(origin, text)?);
    }
    if let Some(env) = sources.env {
        layers.push(reader.given(&bittensor_env(env))?);
        layers.push(reader.given(&own_env(env)?)?);
    }
    layers.push(reader.given(sources.flags)?);
    combine(layers)
}

/// Checks the settings that a profile wants; `~/` is not for profiles.
pub(super) fn check_profile(profile: &Profile) -> Result<(), Error> {
    Reader { home: None }.profile(profile).map(drop)
}

fn combine(layers: Vec<Vec<Shown>>) -> Result<Loaded, Error> {
    let mut values = BTreeMap::new();
    let mut builder = config::Config::builder();
    for mut layer in layers {
        forget_addresses(&mut layer);
        values.extend(layer.iter().map(|shown| (shown.key.clone(), shown.clone())));
        builder = builder.add_source(Layer(layer));
    }
    let settings: Settings = builder.build()?.try_deserialize()?;
    let loaded = Loaded { settings, values: values.into_values().collect() };
    settings::check_sense(&loaded)?;
    Ok(loaded)
}

/// Whoever names a network means that network: addresses that a lower layer gave belong to another one. A layer that
/// gives both means both.
fn forget_addresses(layer: &mut Vec<Shown>) {
    let gives = |key: &str| layer.iter().find(|shown| shown.key == key);
    if let (Some(name), None) = (gives("network.name"), gives("network.endpoints")) {
        let origin = name.origin.clone();
        layer.push(Shown { key: "network.endpoints".to_owned(), value: Value::List(Vec::new()), origin });
    }
}

/// Variables that are settings: `WAAG__NETWORK__NETUID`.
fn own_env(env: &BTreeMap<String, String>) -> Result<Vec<Given>, Error> {
    let mut given = Vec::new();
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        if settings::kind(&key).is_none() {
            let spell = |key: &str| format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"));
            let known: Vec<_> = settings::keys().map(spell).collect();
            let meant = super::place::suggest(&key, settings::keys()).map(spell);
            let what = meant.map_or_else(
                || format!("there is no such setting; known are {}", known.join(", ")),
                |meant| format!("there is no such setting; did you mean `{meant}`?"),
            );
            return Err(Error::Settings { code: SETTINGS_UNKNOWN_KEY, place: name.clone(), what });
        }
        given.push(Given { name: name.clone(), key, value: value.clone() });
    }
    Ok(given)
}

#[derive(Debug, Clone)]
struct Layer(Vec<Shown>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, Layered>, config::ConfigError> {
        let value = |shown: &Shown| (shown.key.clone(), Layered::new(Some(&shown.origin), shown.value.clone()));
        Ok(self.0.iter().map(value).collect())
    }
}

struct Reader<'a> {
    home: Option<&'a Path>,
}

impl Reader<'_> {
    fn text(&self, origin: &str, text: &str) -> Result<Vec<Shown>, Error> {
        let bytes = text.len() as u64;
        if bytes > CONFIG_FILE_BYTES {
            return Err(Error::TooLarge { origin: origin.to_owned(), bytes, limit: CONFIG_FILE_BYTES });
        }
        let document = Document { origin, text };
        let table: toml::Table = toml::from_str(text).map_err(|error| Error::Settings {
            code: SETTINGS_SYNTAX,
            place: document.place(error.span().map_or(0, |span| span.start)).to_string(),
            what: error.message().to_owned(),
        })?;
        let place = |key: &str| {
            let way: Vec<_> = key.split('.').map(Step::Key).collect();
            document.locate(&way).to_string()
        };
        let mut values = Vec::new();
        self.flatten("", table, &place, &mut values).map_err(|mistake| mistake.in_settings(&place))?;
        Ok(values)
    }

    fn profiles(&self, profiles: &[Profile]) -> Result<Vec<Shown>, Error> {
        let mut values: Vec<Shown> = Vec::new();
        for profile in profiles {
            for shown in self.profile(profile)? {
                let other = values.iter().find(|other| other.key == shown.key && other.value != shown.value);
                if let Some(other) = other {
                    let why = format!("{} and {} want different values of `{}`", other.origin, shown.origin, shown.key);
                    return Err(Error::Clash { why });
                }
                values.push(shown);
            }
        }
        Ok(values)
    }

    fn profile(&self, profile: &Profile) -> Result<Vec<Shown>, Error> {
        let place = |key: &str| profile.place_of_setting(key).to_string();
        let mistake = |code, key: &str, what| Error::Profile { code, place: profile.place_of_setting(key), what };
        let mut values = Vec::new();
        self.flatten("", profile.settings.clone(), &place, &mut values).map_err(|wrong| {
            let code = if wrong.is_unknown { PROFILE_UNKNOWN_KEY } else { PROFILE_INVALID };
            mistake(code, &wrong.key, wrong.what)
        })?;
        let allowed = |shown: &&Shown| {
            let section = shown.key.split('.').next().unwrap_or_default();
            PROFILE_SECTIONS.contains(&section)
        };
        if let Some(other) = values.iter().find(|shown| !allowed(shown)) {
            let what = format!("a profile may only set {}", PROFILE_SECTIONS.join(", "));
            return Err(mistake(PROFILE_INVALID, &other.key, what));
        }
        Ok(values)
    }

    fn given(&self, given: &[Given]) -> Result<Vec<Shown>, Error> {
        let value = |given: &Given| {
            let wrong = |code, what| Error::Settings { code, place: given.name.clone(), what };
            let kind = settings::kind(&given.key).ok_or_else(|| {
                let what = format!("unknown key `{}`{}", given.key, hint(&given.key, settings::keys()));
                wrong(SETTINGS_UNKNOWN_KEY, what)
            })?;
            let value = from_text(kind, &given.value)
                .and_then(|value| self.checked(kind, value))
                .map_err(|what| wrong(SETTINGS_INVALID, what))?;
            Ok(Shown { key: given.key.clone(), value, origin: given.name.clone() })
        };
        given.iter().map(value).collect()
    }

    fn flatten(
        &self,
        prefix: &str,
        table: toml::Table,
        place: &dyn Fn(&str) -> String,
        values: &mut Vec<Shown>,
    ) -> Result<(), Mistake> {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match (settings::kind(&key), value) {
                (Some(kind), value) => {
                    let checked = from_toml(value).and_then(|value| self.checked(kind, value));
                    let value = checked.map_err(|what| Mistake { key: key.clone(), is_unknown: false, what })?;
                    values.push(Shown { value, origin: place(&key), key });
                }
                (None, toml::Value::Table(inner)) if settings::is_section(&key) => {
                    self.flatten(&key, inner, place, values)?;
                }
                (None, _) if settings::is_section(&key) => {
                    let what = format!("`{key}` is a section: write `[{key}]` above its settings");
                    return Err(Mistake { key, is_unknown: false, what });
                }
                (None, _) => {
                    let here = settings::names_in(prefix);
                    let what = format!("unknown key `{name}`{}", hint(&name, here.iter().map(String::as_str)));
                    return Err(Mistake { key, is_unknown: true, what });
                }
            }
        }
        Ok(())
    }

    /// The value in the form that is used, if it is of its kind.
    fn checked(&self, kind: Kind, value: Value) -> Result<Value, String> {
        match (kind, value) {
            (Kind::Text, Value::Text(text)) => Ok(Value::Text(text)),
            (Kind::Word(words), Value::Text(text)) if words.contains(&text.as_str()) => Ok(Value::Text(text)),
            (Kind::Word(words), Value::Text(text)) => {
                Err(format!("unknown word `{text}`{}", hint(&text, words.iter().copied())))
            }
            (Kind::Whole(min, max), Value::Whole(number)) if (min..=max).contains(&number) => Ok(Value::Whole(number)),
            (Kind::Whole(min, max), Value::Whole(number)) => Err(format!("{number} is not within {min} and {max}")),
            (Kind::Path | Kind::PathOrNone, Value::Text(text)) => self.path(kind, text).map(Value::Text),
            (Kind::FileName, Value::Text(text)) if is_file_name(&text) => Ok(Value::Text(text)),
            (Kind::FileName, Value::Text(text)) => Err(format!("`{text}` is not the name of a file or folder")),
            (Kind::Address, Value::Text(text)) if text.parse::<SocketAddr>().is_ok() => Ok(Value::Text(text)),
            (Kind::Address, Value::Text(text)) => {
                Err(format!("`{text}` is not an address and a port, such as 127.0.0.1:8080"))
            }
            (Kind::UrlOrNone(_), Value::Text(text)) if text.is_empty() => Ok(Value::Text(text)),
            (Kind::UrlOrNone(schemes), Value::Text(text)) => url(schemes, text).map(Value::Text),
            (Kind::HashOrNone, Value::Text(text)) => hash(text).map(Value::Text),
            (Kind::Network, Value::Text(text)) => network(text).map(Value::Text),
            (Kind::Texts, Value::List(items)) => Ok(Value::List(items)),
            (Kind::Urls(schemes), Value::List(items)) => {
                items.into_iter().map(|item| url(schemes, item)).collect::<Result<_, _>>().map(Value::List)
            }
            (Kind::Whole(..), _) => Err("a whole number belongs here".to_owned()),
            (Kind::Texts | Kind::Urls(_), _) => Err("a list belongs here, such as [\"a\", \"b\"]".to_owned()),
            (_, _) => Err("a text in quotes belongs here".to_owned()),
        }
    }

    fn path(&self, kind: Kind, text: String) -> Result<String, String> {
        match (text.strip_prefix("~/"), self.home) {
            (Some(below), Some(home)) => Ok(home.join(below).display().to_string()),
            (Some(_), None) => Err("`~/` means nothing here: there is no home directory".to_owned()),
            (None, _) if text.is_empty() && matches!(kind, Kind::Path) => Err("a path belongs here".to_owned()),
            (None, _) => Ok(text),
        }
    }
}

struct Mistake {
    key: String,
    is_unknown: bool,
    what: String,
}

impl Mistake {
    fn in_settings(self, place: &dyn Fn(&str) -> String) -> Error {
        let code = if self.is_unknown { SETTINGS_UNKNOWN_KEY } else { SETTINGS_INVALID };
        Error::Settings { code, place: place(&self.key), what: self.what }
    }
}

fn from_toml(value: toml::Value) -> Result<Value, String> {
    match value {
        toml::Value::String(text) => Ok(Value::Text(text)),
        toml::Value::Integer(number) => Ok(Value::Whole(number)),
        toml::Value::Array(items) => {
            let texts = items.into_iter().map(|item| match item {
                toml::Value::String(text) => Ok(text),
                other => Err(format!("the list has a {}, only texts in quotes belong there", other.type_str())),
            });
            bounded_list(texts.collect::<Result<_, _>>()?)
        }
        other => Err(format!("no setting is a {}", other.type_str())),
    }
}

fn from_text(kind: Kind, text: &str) -> Result<Value, String> {
    if text.len() > VALUE_BYTES {
        return Err(format!("the value has {} bytes, the limit is {VALUE_BYTES}", text.len()));
    }
    match kind {
        Kind::Whole(min, max) => {
            let number = text
                .trim()
                .parse()
                .map_err(|_source| format!("`{text}` is not a whole number within {min} and {max}"))?;
            Ok(Value::Whole(number))
        }
        Kind::Texts | Kind::Urls(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            bounded_list(items.map(ToOwned::to_owned).collect())
        }
        _ => Ok(Value::Text(text.to_owned())),
    }
}

fn bounded_list(items: Vec<String>) -> Result<Value, String> {
    if items.len() > LIST_ITEMS {
        return Err(format!("the list has {} items, the limit is {LIST_ITEMS}", items.len()));
    }
    Ok(Value::List(items))
}

/// One component of a path: nothing that leads elsewhere.
fn is_file_name(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(name)), None) if name == text)
}

fn url(schemes: &[&str], text: String) -> Result<String, String> {
    let begins = schemes.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if begins && !text.contains(char::is_whitespace) {
        Ok(text)
    } else {
        Err(format!("`{text}` is not an address that begins with {}", schemes.join(" or ")))
    }
}

fn hash(text: String) -> Result<String, String> {
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    if digits.is_empty() || digits.parse::<crate::ids::Digest>().is_ok() {
        return Ok(digits.to_owned());
    }
    Err(format!("`{text}` is not a hash: 64 hexadecimal digits belong here, or nothing"))
}

fn network(text: String) -> Result<String, String> {
    if settings::NETWORKS.contains(&text.as_str()) {
        return Ok(text);
    }
    let given = text.clone();
    url(settings::NODE_SCHEMES, text).map_err(|_not_an_address| {
        format!("unknown network `{given}`{}", hint(&given, settings::NETWORKS.iter().copied()))
    })
}

/// A path that was checked.
pub(super) fn path_of(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}
