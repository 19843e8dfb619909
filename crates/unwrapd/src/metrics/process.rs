//! The metrics of the process, under the names that every Prometheus client uses
//! ([convention](https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics)).

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Use of the machine by the process, as far as the system shows it.
#[derive(Debug, Default)]
pub(crate) struct ProcessUsage {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_files: Option<u64>,
    open_files_max: Option<u64>,
}

impl ProcessUsage {
    /// Reads some small files below `/proc`. What cannot be read is left out.
    #[cfg(target_os = "linux")]
    pub(crate) fn read() -> Self {
        use procfs::process::{LimitValue, Process};

        let Ok(process) = Process::myself() else {
            return Self::default();
        };
        let mut usage = Self {
            open_files: process.fd_count().ok().map(|files| files as u64),
            open_files_max: process.limits().ok().and_then(|limits| {
                match limits.max_open_files.soft_limit {
                    LimitValue::Value(most) => Some(most),
                    LimitValue::Unlimited => None,
                }
            }),
            ..Self::default()
        };
        if let Ok(stat) = process.stat() {
            usage.cpu_seconds = Some(in_seconds(stat.utime + stat.stime));
            usage.resident_bytes = Some(stat.rss * procfs::page_size());
            usage.virtual_bytes = Some(stat.vsize);
            usage.threads = u64::try_from(stat.num_threads).ok();
            usage.start_seconds = procfs::boot_time_secs()
                .ok()
                .map(|boot| precise(boot) + in_seconds(stat.starttime));
        }
        usage
    }

    /// Other systems have no `/proc`.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn read() -> Self {
        Self::default()
    }

    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("process");
        if let Some(seconds) = self.cpu_seconds {
            registry.register_with_unit(
                "cpu",
                "Processor time of the process",
                Unit::Seconds,
                ConstCounter::new(seconds),
            );
        }
        let values = [
            (
                "start_time_seconds",
                "Start of the process, in seconds since 1970",
                self.start_seconds,
            ),
            (
                "resident_memory_bytes",
                "Memory in use",
                self.resident_bytes.map(precise),
            ),
            (
                "virtual_memory_bytes",
                "Address space in use",
                self.virtual_bytes.map(precise),
            ),
            ("threads", "Number of threads", self.threads.map(precise)),
            (
                "open_fds",
                "Number of open files and connections",
                self.open_files.map(precise),
            ),
            (
                "max_fds",
                "Most open files and connections that the system allows",
                self.open_files_max.map(precise),
            ),
        ];
        for (name, help, value) in values {
            if let Some(value) = value {
                let gauge = Gauge::<f64, AtomicU64>::default();
                gauge.set(value);
                registry.register(name, help, gauge);
            }
        }
        registry
    }
}

#[cfg(target_os = "linux")]
fn in_seconds(ticks: u64) -> f64 {
    precise(ticks) / precise(procfs::ticks_per_second())
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53 in practice")]
fn precise(value: u64) -> f64 {
    value as f64
}
