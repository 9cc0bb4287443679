//! What is kept of a run: snapshots, journal, page, and the model at the end. Only rank 0 writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::samples::Samples;
use super::{Beginning, Job, Learner, Outcome, State, TrainError, now, roles};
use crate::dataset::Dataset;
use crate::engine::Device;
use crate::generation::GenerationError;
use crate::journal::{self, Display, Journal, Picture, SampleCaption, Start, StepRecord};
use crate::loader::Broken;
use crate::objectives::Batch;
use crate::report::{Page, loss_plots, png};
use crate::settings::Task;
use crate::snapshot::{Facts, Snapshot, Snapshots, Vector};
use crate::weights::{self, Trained};
use dataset::disk::{Existing, write_whole};

/// Sections and keys that may change when a run goes on.
const MAY_CHANGE: [&str; 9] = [
    "run.device",
    "run.threads",
    "run.patience",
    "run.epochs",
    "run.steps",
    "data.threads",
    "data.ahead",
    "data.validation",
    "output",
];

/// The files of a run.
pub(super) struct Record<'a> {
    job: &'a Job,
    total: u64,
    facts: BTreeMap<String, String>,
    writer: Option<Writer>,
    resumed: Option<Snapshot>,
    /// Step of the newest snapshot: it is never written a second time, so there is always one.
    saved_at: Option<u64>,
    began: Instant,
    page_at: Instant,
}

/// What rank 0 has.
struct Writer {
    snapshots: Snapshots,
    journal: Option<Journal>,
    display: Option<Display>,
    samples: Option<Samples>,
}

impl<'a> Record<'a> {
    /// Opens the run's folder and finds the snapshot to go on from.
    pub fn open(job: &'a Job, total: u64) -> Result<Record<'a>, TrainError> {
        let facts = facts(job);
        let is_first = job.ranks.as_ref().is_none_or(|ranks| ranks.rank() == 0);
        let (mut writer, mut resumed, mut saved_at) = (None, None, None);
        if is_first {
            let snapshots = Snapshots::open(&job.folder.join("snapshots"), job.settings.output.snapshots)?;
            if let Some(found) = snapshots.latest()? {
                for error in &found.passed_over {
                    eprintln!("passed over: {}", terminal::explained(error));
                }
                found.snapshot.same_settings(&facts)?;
                saved_at = Some(found.snapshot.facts.step);
                resumed = Some(found.snapshot);
            }
            writer = Some(Writer { snapshots, journal: None, display: None, samples: None });
        }
        let now = Instant::now();
        Ok(Record { job, total, facts, writer, resumed, saved_at, began: now, page_at: now })
    }

    /// The state to start from: the snapshot's, or a new one. All ranks get rank 0's.
    pub fn state(&mut self, beginning: &Beginning) -> Result<State, TrainError> {
        let losses = &self.job.settings.losses;
        let objective = self.job.task.objective();
        let queue = (losses.queue, self.job.settings.run.seed);
        let fresh = State::new(&beginning.model, beginning.weights.clone(), objective, queue);
        let state = match self.resumed.take() {
            Some(snapshot) => thawed(snapshot, &fresh)?,
            None => fresh,
        };
        match &self.job.ranks {
            Some(ranks) => Ok(shared(ranks, state)?),
            None => Ok(state),
        }
    }

    /// Starts the journal, says what the run is, and draws the pictures of its sample captions.
    pub fn begin<D: Device>(
        &mut self,
        learner: &Learner<D>,
        beginning: &Beginning,
        data: &Dataset,
    ) -> Result<(), TrainError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let done = learner.steps();
        let start = if done == 0 { Start::New } else { Start::After(done) };
        let mut journal = Journal::open(&self.job.folder, start, now())?;
        let every = Duration::from_secs(self.job.settings.output.line_every);
        let display = Display::new(done, self.total, every);
        let parameters = beginning.model.layout.length();
        display.say(&format!(
            "{} on {}: {parameters} parameters, steps {done} to {}, into {}",
            task_name(self.job.task),
            learner.device().name(),
            self.total,
            self.job.folder.display()
        ));
        let random = beginning.report.random.len();
        if random > 0 && random < beginning.model.layout.entries().len() {
            display.say(&format!("{random} tensors start at random: {}", some(&beginning.report.random)));
        }
        for note in &beginning.report.notes {
            display.say(note);
        }
        writer.samples = Samples::choose(self.job, beginning, data, |line| display.say(line))?;
        for (name, picture) in writer.samples.iter().flat_map(Samples::pictures) {
            let shown = Picture { width: picture.width(), height: picture.height(), png: &png(picture) };
            journal.events().picture(done, now(), &format!("pictures/{name}"), &shown)?;
        }
        (writer.journal, writer.display) = (Some(journal), Some(display));
        let path = self.job.folder.join("settings.toml");
        let settings = self.job.settings.to_toml();
        write_whole(&path, |out| out.write_all(settings.as_bytes()))
            .map_err(|source| TrainError::Write { path, source })
    }

    /// Notes a step, and saves what is due.
    pub fn step<D: Device>(
        &mut self,
        learner: &Learner<D>,
        beginning: &Beginning,
        mut record: StepRecord,
    ) -> Result<(), TrainError> {
        let output = &self.job.settings.output;
        record.captions = self.captions(learner, beginning)?;
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if let Some(journal) = &mut writer.journal {
            journal.write(&record)?;
        }
        if let Some(display) = &mut writer.display {
            display.show(&record, self.began.elapsed());
        }
        if output.snapshot_every > 0 && record.step.is_multiple_of(output.snapshot_every) {
            self.save(learner)?;
        }
        if self.page_at.elapsed().as_secs() >= output.page_every {
            self.page_at = Instant::now();
            self.page(beginning, Some(output.page_every.clamp(1, 3600) as u32))?;
        }
        Ok(())
    }

    /// The sample captions that are due after this step.
    fn captions<D: Device>(
        &self,
        learner: &Learner<D>,
        beginning: &Beginning,
    ) -> Result<Vec<SampleCaption>, TrainError> {
        let Some(Writer { samples: Some(samples), display: Some(display), .. }) = &self.writer else {
            return Ok(Vec::new());
        };
        let step = learner.steps();
        if !samples.are_due(step) {
            return Ok(Vec::new());
        }
        match samples.write(learner, beginning) {
            Ok(captions) => {
                let line = |caption: &SampleCaption| format!("step {step}, {}: {}", caption.picture, caption.text);
                captions.iter().for_each(|caption| display.say(&line(caption)));
                Ok(captions)
            }
            Err(GenerationError::Engine(error)) => Err(error.into()),
            Err(error) => {
                display.say(&format!("step {step}, no sample captions: {}", terminal::explained(&error)));
                Ok(Vec::new())
            }
        }
    }

    /// Losses of the journal's last step, in the order of the objective's.
    pub fn last_losses(&self) -> Result<Vec<f32>, TrainError> {
        if self.writer.is_none() {
            return Ok(Vec::new());
        }
        let records = journal::records(&self.job.folder.join(journal::LINES_FILE))?;
        let names = self.job.task.objective().losses().iter();
        Ok(names.filter_map(|name| Some(*records.last()?.losses.get(*name)? as f32)).collect())
    }

    /// Names pictures that could not be read.
    pub fn broken(&self, broken: &Broken) {
        let line = format!("{} pictures could not be read: {}", broken.count(), broken.first().join("; "));
        match (self.writer.as_ref().and_then(|writer| writer.display.as_ref()), &self.job.ranks) {
            (Some(display), _) => display.say(&line),
            (None, Some(ranks)) => eprintln!("rank {}: {line}", ranks.rank()),
            (None, None) => eprintln!("{line}"),
        }
    }

    /// Saves a batch whose loss is not a number, with the weights that it met: what the run fails with.
    pub fn keep_batch<D: Device>(
        &mut self,
        learner: &Learner<D>,
        batches: &[Batch],
        outcome: &Outcome,
    ) -> Result<TrainError, TrainError> {
        let rank = learner.device().rank();
        let folder = self.job.folder.join(format!("not-a-number-step-{}-rank-{rank}", learner.steps()));
        let failed = |source| TrainError::Write { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        for (number, batch) in batches.iter().enumerate() {
            let pixels: Vec<u8> = batch.pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(folder.join(format!("batch-{number}-pixels-f32.bin")), pixels).map_err(failed)?;
            let facts = serde_json::json!({
                "pictures": batch.pictures, "texts": batch.texts, "names": batch.names,
                "learning_rate": outcome.learning_rate, "losses": format!("{:?}", outcome.losses),
                "gradient_norm": format!("{}", outcome.gradient_norm),
            });
            std::fs::write(folder.join(format!("batch-{number}.json")), facts.to_string()).map_err(failed)?;
        }
        let losses = format!("{:?}, gradient norm {}", outcome.losses, outcome.gradient_norm);
        Ok(TrainError::NotANumber { step: learner.steps(), losses, folder })
    }

    /// The last snapshot, the page as a report, and the model.
    pub fn finish<D: Device>(&mut self, learner: &Learner<D>, beginning: &Beginning) -> Result<PathBuf, TrainError> {
        let folder = self.job.folder.join("model");
        if self.writer.is_none() {
            return Ok(folder);
        }
        self.save(learner)?;
        if let Some(writer) = &self.writer {
            // A run that was killed after its last snapshot, before the older ones went, has nothing more to save.
            writer.snapshots.prune()?;
        }
        self.page(beginning, None)?;
        let state = learner.state()?;
        let trained = Trained {
            model: &beginning.model,
            config: &beginning.config,
            values: &state.weights,
            preparation: &beginning.preparation,
        };
        weights::write(&folder, trained, roles(self.job.task), Existing::Replace)?;
        if let Some(display) = self.writer.as_ref().and_then(|writer| writer.display.as_ref()) {
            display.finish();
        }
        Ok(folder)
    }

    fn save<D: Device>(&mut self, learner: &Learner<D>) -> Result<(), TrainError> {
        let Some(writer) = self.writer.as_ref().filter(|_| self.saved_at != Some(learner.steps())) else {
            return Ok(());
        };
        let state = learner.state()?;
        if !state.is_finite() {
            return Err(TrainError::Overflow { step: state.step, folder: self.job.folder.join("snapshots") });
        }
        let saved = writer.snapshots.save(&frozen(state, &self.facts, self.job))?;
        self.saved_at = Some(learner.steps());
        if let Some(display) = &writer.display {
            for path in &saved.aside {
                display.say(&format!("moved aside: {}", path.display()));
            }
            for (path, error) in &saved.undeleted {
                display.say(&format!("{} could not be deleted: {error}", path.display()));
            }
        }
        Ok(())
    }

    fn page(&self, beginning: &Beginning, refresh: Option<u32>) -> Result<(), TrainError> {
        let records = journal::records(&self.job.folder.join("journal.jsonl"))?;
        let name = task_name(self.job.task);
        let mut page = Page::new(&format!("edgeblip: {name}")).refresh_seconds(refresh).section("Losses");
        for plot in loss_plots(&records) {
            page = page.line_plot(&plot);
        }
        if let Some(samples) = self.writer.as_ref().and_then(|writer| writer.samples.as_ref()) {
            page = page.section("Sample captions").pictures(&samples.cards(&records));
        }
        let rows: Vec<Vec<String>> = self.facts.iter().map(|(key, value)| vec![key.clone(), value.clone()]).collect();
        page = page.section("Model").paragraph(&format!(
            "{} parameters; {} words.",
            beginning.model.layout.length(),
            beginning.preparation.vocabulary.len()
        ));
        page.section("Settings")
            .table("Settings in force", &["setting", "value"], &rows)
            .write(&self.job.folder.join("page.html"))?;
        Ok(())
    }
}

fn task_name(task: Task) -> &'static str {
    match task {
        Task::Pretrain => "pre-training",
        Task::Captioner => "fine-tuning a captioner",
        Task::Matcher => "fine-tuning a matcher",
        Task::Answerer => "fine-tuning an answerer",
    }
}

fn some(names: &[String]) -> String {
    let mut text = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 4 {
        text.push_str(", ...");
    }
    text
}

/// Settings that must not change when a run goes on.
fn facts(job: &Job) -> BTreeMap<String, String> {
    let mut facts = job.settings.facts();
    facts.retain(|name, _| {
        let section = name.split('.').next().unwrap_or_default();
        !MAY_CHANGE.contains(&name.as_str()) && !MAY_CHANGE.contains(&section)
    });
    facts.insert("task".to_owned(), task_name(job.task).to_owned());
    facts
}

fn frozen(state: State, facts: &BTreeMap<String, String>, job: &Job) -> Snapshot {
    let mut vectors: BTreeMap<String, Vector> = [
        ("weights", state.weights),
        ("momentum", state.momentum),
        ("first", state.first),
        ("second", state.second),
        ("image_queue", state.image_queue),
        ("text_queue", state.text_queue),
    ]
    .into_iter()
    .map(|(name, values)| (name.to_owned(), Vector::Floats(values)))
    .collect();
    vectors.insert("queue_names".to_owned(), Vector::Numbers(state.queue_names));
    Snapshot {
        facts: Facts {
            step: state.step,
            seed: job.settings.run.seed,
            queue_row: state.queue_at as u64,
            settings: facts.clone(),
            ..Facts::default()
        },
        vectors,
    }
}

fn thawed(mut snapshot: Snapshot, like: &State) -> Result<State, TrainError> {
    Ok(State {
        weights: snapshot.take_floats("weights", like.weights.len())?,
        momentum: snapshot.take_floats("momentum", like.momentum.len())?,
        first: snapshot.take_floats("first", like.first.len())?,
        second: snapshot.take_floats("second", like.second.len())?,
        image_queue: snapshot.take_floats("image_queue", like.image_queue.len())?,
        text_queue: snapshot.take_floats("text_queue", like.text_queue.len())?,
        queue_names: snapshot.take_numbers("queue_names", like.queue_names.len())?,
        queue_at: snapshot.facts.queue_row as usize % like.queue_names.len().max(1),
        step: snapshot.facts.step,
    })
}

/// Rank 0's state, on every rank.
fn shared(ranks: &crate::ranks::Group, mut state: State) -> Result<State, crate::ranks::RanksError> {
    for values in [
        &mut state.weights,
        &mut state.momentum,
        &mut state.first,
        &mut state.second,
        &mut state.image_queue,
        &mut state.text_queue,
    ] {
        ranks.broadcast(values)?;
    }
    ranks.broadcast(&mut state.queue_names)?;
    let mut place = [state.queue_at as u64, state.step];
    ranks.broadcast(&mut place)?;
    (state.queue_at, state.step) = (place[0] as usize, place[1]);
    Ok(state)
}
