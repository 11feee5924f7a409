//! One demo that stays up, for every test that looks at a running appliance.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use super::{Said, folder, run, waag};

/// Runs the demo until our end of its stdin closes, which it does however this process ends; then nothing is left of
/// it. Only the demo holds the other end of stdout, so that one that dies is noticed.
const SCRIPT: &str = r#"
exec 3<&0 4>&1 >/dev/null
"$WAAG" demo --fast --keep --json --data-dir "$DIR/demo" </dev/null >&4 2>"$DIR/stderr" 4>&- & demo=$!
exec 4>&-
cat <&3
kill "$demo"
wait "$demo"
rm -rf "$DIR"
"#;

/// A demo that has played to its end and answers.
pub struct World {
    /// Its one document.
    pub report: Value,
    /// What a chain said about its evidence, before anybody else came to the subnet.
    pub confirmed: Said,
    _process: (Child, ChildStdin, ChildStdout),
}

/// The one world of this process, made when it is first needed.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::start)
}

impl World {
    fn start() -> Self {
        let dir = folder().keep();
        let program = waag(&dir).get_program().to_owned();
        let path = std::env::var_os("PATH").expect("there are programs");
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .env_clear()
            .envs([("WAAG", program), ("DIR", dir.clone().into()), ("HOME", dir.clone().into()), ("PATH", path)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let report = serde_json::Deserializer::from_reader(&mut stdout).into_iter::<Value>().next();
        let said = || fs::read_to_string(dir.join("stderr")).unwrap_or_default();
        let report = report.unwrap_or_else(|| panic!("the demo ended without a word: {}", said()));
        let report = report.unwrap_or_else(|error| panic!("{error}: {}", said()));
        assert_eq!(report["ok"], true, "{report:#}\n{}", said());
        let file = report["evidence"]["file"].as_str().expect("a path");
        let chain = report["chain"].as_str().expect("an address");
        let confirmed = run(&dir, &["verify", file, "--chain", chain, "--json"]);
        Self { report, confirmed, _process: (child, stdin, stdout) }
    }

    fn text(&self, pointer: &str) -> &str {
        self.report.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} is missing"))
    }

    /// The evidence that it wrote down.
    pub fn evidence(&self) -> &str {
        self.text("/evidence/file")
    }

    /// The digest of that evidence.
    pub fn evidence_digest(&self) -> &str {
        self.text("/evidence/digest")
    }

    /// The address of its chain.
    pub fn chain(&self) -> &str {
        self.text("/chain")
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        Path::new(self.text("/folder")).join("data")
    }

    /// The flags by which a verb reaches appliance and chain.
    pub fn flags(&self) -> [&str; 8] {
        let chain = ["--subtensor.network", "devnet", "--subtensor.chain-endpoint", self.chain()];
        let [network, devnet, endpoint, url] = chain;
        [network, devnet, endpoint, url, "--netuid", "7", "--api", self.text("/api")]
    }

    /// Runs a verb against it.
    pub fn ask(&self, dir: &Path, args: &[&str]) -> Said {
        run(dir, &[&self.flags()[..], args].concat())
    }

    /// One member of the cast.
    pub fn member(&self, name: &str) -> &Value {
        let members = self.report["members"].as_array().expect("a list");
        members.iter().find(|member| member["name"] == name).unwrap_or_else(|| panic!("{name} is missing"))
    }
}
