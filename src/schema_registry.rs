//! Schema registries: obtain the schemas that records name, and keep them.
//!
//! Sources look schemas up without waiting ([`Schemas`]); a task requests what is missing, over the API of Confluent's
//! Schema Registry. [`cache`] decides how long records wait for a schema. Nothing is registered, and no subject is
//! configured: a record names the schema that it was written with.

mod avro;
mod cache;
mod fetch;
mod protobuf;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::sleep;

use self::avro::AvroSchema;
use self::cache::{Cache, Key};
pub use self::fetch::Credentials;
use self::fetch::{Failure, Fetcher};
use self::protobuf::ProtobufSchema;
use crate::bounded;
use crate::decode::registered::{Lookup, SchemaFormat, SchemaId, Schemas, WriterSchema};
use crate::http_client::{TlsError, TlsRoots};

/// The most requests that wait for their turn.
const QUEUE_MAX: usize = 256;
/// The most concurrent requests.
const REQUESTS_MAX: usize = 4;

/// A registry, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    pub name: Box<str>,
    /// Without a slash at its end.
    pub url: Box<str>,
    pub credentials: Option<Credentials>,
    /// Absent, the system's authorities.
    pub roots: Option<TlsRoots>,
    /// How long records wait for their schema.
    pub wait: Duration,
}

/// The text of a schema.
#[derive(Debug, Default)]
struct SchemaText {
    schema: String,
    /// The schemas that it refers to, directly or not, with the names that it has for them.
    references: Vec<(String, String)>,
}

impl SchemaText {
    fn len(&self) -> usize {
        self.schema.len() + self.references.iter().map(|(_, text)| text.len()).sum::<usize>()
    }
}

/// A request has ended: the registry's name, and `ok`, `unknown` or `failed`.
pub type OnRequest = Arc<dyn Fn(&str, &'static str) + Send + Sync>;
/// The registry's name, and the number of schemas in its cache.
pub type OnChange = Arc<dyn Fn(&str, usize) + Send + Sync>;

/// What a registry reports.
#[derive(Clone)]
pub struct RegistryHooks {
    pub on_request: OnRequest,
    pub on_change: OnChange,
}

/// A schema, or why it cannot be used.
type Compiled = Result<Arc<dyn WriterSchema>, String>;
/// A schema with the bytes of its text.
type Fetched = Result<(Compiled, usize), Failure>;

/// A registry with the schemas that are known.
pub struct Registry {
    name: Box<str>,
    settings: Mutex<RegistrySettings>,
    cache: Mutex<Cache>,
    asked: Sender<Key>,
    /// Until requests are sent.
    requests: Mutex<Option<Receiver<Key>>>,
    /// Present while requests are sent.
    running: Mutex<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    fetcher: Arc<Fetcher>,
    hooks: RegistryHooks,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        let settings = self.settings();
        settings == other.settings()
    }
}

impl Registry {
    pub fn new(settings: RegistrySettings) -> Self {
        let (asked, requests) = mpsc::channel(QUEUE_MAX);
        let (name, cache) = (settings.name.clone(), Mutex::new(Cache::new(settings.wait)));
        let (requests, running) = (Mutex::new(Some(requests)), Mutex::new(None));
        Self { name, settings: Mutex::new(settings), cache, asked, requests, running }
    }

    /// Sends requests in a task from now on, until the registry is dropped. Does nothing if there is such a task.
    ///
    /// # Errors
    ///
    /// TLS cannot be prepared.
    pub fn start(self: &Arc<Self>, hooks: RegistryHooks) -> Result<(), TlsError> {
        let Some(requests) = lock(&self.requests).take() else { return Ok(()) };
        let fetcher = Arc::new(Fetcher::new(&self.settings())?);
        *lock(&self.running) = Some(Running { fetcher, hooks });
        tokio::spawn(serve(Arc::downgrade(self), requests));
        Ok(())
    }

    /// Continues with the settings of another one. The schemas stay unless the URL differs: ids are those of one registry.
    ///
    /// # Errors
    ///
    /// TLS cannot be prepared; the previous settings stay.
    pub fn reconfigure(&self, other: &Self) -> Result<(), TlsError> {
        let (before, settings) = (self.settings(), other.settings());
        if before == settings {
            return Ok(());
        }
        let fetcher = Arc::new(Fetcher::new(&settings)?);
        let mut cache = lock(&self.cache);
        cache.reconfigure(settings.wait, before.url == settings.url);
        let known = cache.len();
        *lock(&self.settings) = settings;
        if let Some(running) = &mut *lock(&self.running) {
            running.fetcher = fetcher;
            (running.hooks.on_change)(&self.name, known);
        }
        Ok(())
    }

    fn settings(&self) -> RegistrySettings {
        lock(&self.settings).clone()
    }

    fn running(&self) -> Option<Running> {
        lock(&self.running).clone()
    }

    /// Whether requests are still sent by this fetcher.
    fn is_current(&self, fetcher: &Arc<Fetcher>) -> bool {
        self.running().is_some_and(|running| Arc::ptr_eq(&running.fetcher, fetcher))
    }

    /// Requests a schema until it is known, or records no longer wait for it.
    async fn obtain(self: Arc<Self>, key: Key, turns: Arc<Semaphore>) {
        loop {
            let Ok(turn) = turns.acquire().await else { return };
            let Some(Running { fetcher, hooks }) = self.running() else { return };
            let fetched = match fetcher.fetch(key).await {
                Ok(text) => {
                    let bytes = text.len();
                    Ok((compile(key.1, text).await, bytes))
                }
                Err(failure) if failure.is_final() => Ok((Err(failure.to_string()), 0)),
                Err(failure) => Err(failure),
            };
            drop(turn);
            match self.settle(key, &fetcher, fetched, &hooks) {
                Some(pause) => sleep(pause).await,
                None => return,
            }
        }
    }

    /// Records the result of a request. Returns the pause until another one.
    fn settle(&self, key: Key, fetcher: &Arc<Fetcher>, fetched: Fetched, hooks: &RegistryHooks) -> Option<Duration> {
        let mut cache = lock(&self.cache);
        if !self.is_current(fetcher) {
            return Some(Duration::ZERO);
        }
        let failure = match fetched {
            Ok((compiled, bytes)) => {
                self.obtained(cache, key, compiled, bytes, hooks);
                return None;
            }
            Err(failure) => failure,
        };
        let is_unknown = matches!(failure, Failure::Unknown);
        let failed = cache.failed(key, &failure.to_string(), is_unknown, Instant::now());
        drop(cache);
        let (id, registry) = (key.0, &*self.name);
        (hooks.on_request)(registry, if is_unknown { "unknown" } else { "failed" });
        if failed.is_first {
            tracing::warn!(registry, %id, %failure, "cannot get a schema; trying again");
        }
        failed.again_in
    }

    fn obtained(
        &self,
        mut cache: MutexGuard<'_, Cache>,
        key: Key,
        compiled: Compiled,
        bytes: usize,
        hooks: &RegistryHooks,
    ) {
        let registry = &*self.name;
        (hooks.on_request)(registry, "ok");
        if let Err(reason) = &compiled {
            tracing::warn!(registry, id = %key.0, reason, "a schema cannot be used");
        }
        let was_down = cache.obtained(key, compiled, bytes, Instant::now());
        let known = cache.len();
        drop(cache);
        if was_down {
            tracing::info!(registry, "the schema registry responds again");
        }
        (hooks.on_change)(registry, known);
    }
}

/// Requests schemas for records, concurrently, until the registry is dropped.
async fn serve(registry: Weak<Registry>, mut requests: Receiver<Key>) {
    let turns = Arc::new(Semaphore::new(REQUESTS_MAX));
    while let Some(key) = requests.recv().await {
        let Some(registry) = registry.upgrade() else { return };
        tokio::spawn(registry.obtain(key, turns.clone()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Schemas for Registry {
    fn name(&self) -> &str {
        &self.name
    }

    fn find(&self, id: SchemaId, format: SchemaFormat) -> Lookup {
        let (key, now) = ((id, format), Instant::now());
        let mut cache = lock(&self.cache);
        let (lookup, is_to_request) = cache.find(key, now);
        if is_to_request && self.asked.try_send(key).is_err() {
            let _ = cache.failed(key, "too many other schemas are being requested", true, now);
        }
        lookup
    }
}

/// Compiles a schema in a thread of its own: parsers recurse, and take long for large schemas.
async fn compile(format: SchemaFormat, text: SchemaText) -> Compiled {
    let compile = move || -> Compiled {
        Ok(match format {
            SchemaFormat::Avro => Arc::new(AvroSchema::compile(&text)?),
            SchemaFormat::Protobuf => Arc::new(ProtobufSchema::compile(&text)?),
            SchemaFormat::JsonSchema => return Err("a JSON Schema is not needed".into()),
        })
    };
    let compiled = tokio::task::spawn_blocking(|| bounded::run("compiling the schema", compile)).await;
    compiled.unwrap_or_else(|error| Err(error.to_string())).flatten()
}
