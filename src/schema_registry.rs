//! Schema registries: obtain the schemas that records name, and keep them.
//!
//! Sources look schemas up without waiting ([`Schemas`]); a task requests what is missing, over the API of Confluent's
//! Schema Registry. [`cache`] decides how long records wait for a schema. Nothing is registered, and no subject is
//! configured: a record names the schema that it was written with.

mod avro;
mod cache;
mod fetch;
mod protobuf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// A registry with the schemas that are known.
#[derive(Debug)]
pub struct Registry {
    settings: RegistrySettings,
    cache: Mutex<Cache>,
    asked: Sender<Key>,
    /// Until requests are sent.
    requests: Mutex<Option<Receiver<Key>>>,
}

impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Registry {
    pub fn new(settings: RegistrySettings) -> Self {
        let (asked, requests) = mpsc::channel(QUEUE_MAX);
        let cache = Mutex::new(Cache::new(settings.wait));
        Self { settings, cache, asked, requests: Mutex::new(Some(requests)) }
    }

    /// Sends requests in a task from now on. Does nothing if there is such a task.
    ///
    /// # Errors
    ///
    /// TLS cannot be prepared.
    pub fn start(self: &Arc<Self>, hooks: RegistryHooks) -> Result<(), TlsError> {
        let Some(requests) = self.requests.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let fetcher = Arc::new(Fetcher::new(&self.settings)?);
        tokio::spawn(self.clone().serve(requests, fetcher, hooks));
        Ok(())
    }

    async fn serve(self: Arc<Self>, mut requests: Receiver<Key>, fetcher: Arc<Fetcher>, hooks: RegistryHooks) {
        let turns = Arc::new(Semaphore::new(REQUESTS_MAX));
        while let Some(key) = requests.recv().await {
            tokio::spawn(self.clone().obtain(key, fetcher.clone(), turns.clone(), hooks.clone()));
        }
    }

    /// Requests a schema until it is known, or records no longer wait for it.
    async fn obtain(self: Arc<Self>, key: Key, fetcher: Arc<Fetcher>, turns: Arc<Semaphore>, hooks: RegistryHooks) {
        loop {
            let Ok(turn) = turns.acquire().await else { return };
            let fetched = fetcher.fetch(key).await;
            drop(turn);
            let (id, registry) = (key.0, &*self.settings.name);
            let failure = match fetched {
                Ok(text) => {
                    let bytes = text.len();
                    return self.obtained(key, compile(key.1, text).await, bytes, &hooks);
                }
                Err(failure) if failure.is_final() => return self.obtained(key, Err(failure.to_string()), 0, &hooks),
                Err(failure) => failure,
            };
            let is_unknown = matches!(failure, Failure::Unknown);
            (hooks.on_request)(registry, if is_unknown { "unknown" } else { "failed" });
            let failed = self.lock().failed(key, &failure.to_string(), is_unknown, Instant::now());
            if failed.is_first {
                tracing::warn!(registry, %id, %failure, "cannot get a schema; trying again");
            }
            match failed.again_in {
                Some(pause) => sleep(pause).await,
                None => return,
            }
        }
    }

    fn obtained(&self, key: Key, compiled: Result<Arc<dyn WriterSchema>, String>, bytes: usize, hooks: &RegistryHooks) {
        let registry = &*self.settings.name;
        (hooks.on_request)(registry, "ok");
        if let Err(reason) = &compiled {
            tracing::warn!(registry, id = %key.0, reason, "a schema cannot be used");
        }
        let mut cache = self.lock();
        let was_down = cache.obtained(key, compiled, bytes, Instant::now());
        let known = cache.len();
        drop(cache);
        if was_down {
            tracing::info!(registry, "the schema registry responds again");
        }
        (hooks.on_change)(registry, known);
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schemas for Registry {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn find(&self, id: SchemaId, format: SchemaFormat) -> Lookup {
        let (key, now) = ((id, format), Instant::now());
        let mut cache = self.lock();
        let (lookup, is_to_request) = cache.find(key, now);
        if is_to_request && self.asked.try_send(key).is_err() {
            let _ = cache.failed(key, "too many other schemas are being requested", true, now);
        }
        lookup
    }
}

/// Compiles a schema in a thread of its own: parsers recurse, and take long for large schemas.
async fn compile(format: SchemaFormat, text: SchemaText) -> Result<Arc<dyn WriterSchema>, String> {
    let compile = move || -> Result<Arc<dyn WriterSchema>, String> {
        Ok(match format {
            SchemaFormat::Avro => Arc::new(AvroSchema::compile(&text)?),
            SchemaFormat::Protobuf => Arc::new(ProtobufSchema::compile(&text)?),
            SchemaFormat::JsonSchema => return Err("a JSON Schema is not needed".into()),
        })
    };
    let compiled = tokio::task::spawn_blocking(|| bounded::run("compiling the schema", compile)).await;
    compiled.unwrap_or_else(|error| Err(error.to_string())).flatten()
}
