//! What is measured: numbers for Prometheus, in its text form (OpenMetrics 1.0).
//!
//! The way of a number: what is so at this moment is read where it is known ([`read`]: the pool, the volumes, jobs, agents); what only
//! adds up is counted in [`counters`] while it happens. Invariants: every family is told at every scrape, also without a sample, so
//! that dashboards and alerts can be held against the endpoint; a scrape changes nothing; labels are names of volumes, jobs and agents, and
//! reasons out of this program, so there are no more of them than of those.

pub mod counters;
mod read;

use crate::daemon::Daemon;
use crate::error::Result;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use prometheus_client::{collector::Collector, encoding};
use std::fmt;

/// Of what type the answer to a scrape is.
pub const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values that tell samples of a family apart.
pub type Labels = Vec<(&'static str, String)>;

/// Numbers of the same kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Without `understudy_`, and without `_total`.
    pub name: &'static str,
    /// For people.
    pub help: &'static str,
    /// Whether they only ever add up.
    pub is_counter: bool,
    /// The numbers.
    pub samples: Vec<(Labels, f64)>,
}

impl Family {
    fn gauge(name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) -> Self {
        Self { name, help, is_counter: false, samples }
    }
}

/// All that is measured, now.
pub fn scrape(daemon: &Daemon) -> Result<String> {
    let mut registry = Registry::with_prefix("understudy");
    registry.register_collector(Box::new(Families(read::families(daemon)?)));
    let mut text = String::new();
    // Text takes everything.
    let _ = encoding::text::encode(&mut text, &registry);
    Ok(text)
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| {
            let kind = if family.is_counter { MetricType::Counter } else { MetricType::Gauge };
            let mut told = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            family.samples.iter().try_for_each(|(labels, value)| match labels.is_empty() {
                true => put(&mut told, family, *value),
                false => put(&mut told.encode_family(labels)?, family, *value),
            })
        })
    }
}

fn put(encoder: &mut MetricEncoder<'_>, family: &Family, value: f64) -> fmt::Result {
    match family.is_counter {
        true => encoder.encode_counter::<Labels, _, f64>(&value, None),
        false => encoder.encode_gauge(&value),
    }
}
