//! Draws `results/*.tsv`, and `tests/cost/counts.tsv`, as SVG: for the guide, and the soaks beside their results.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};
use session_refresh_load::{PEERS, PEERS_OF_A_DAY, STORES, WAYS, results};

const FONT: &str = "sans-serif";
const SIZE: (u32, u32) = (860, 360);

fn main() {
    cpu();
    instructions();
    day();
    contention();
    scale();
    soak("postgres");
    soak("redis");
}

/// Where the guide has its pictures.
fn picture(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../runtime/src/guide"
    ))
    .join(name)
}

type Row = BTreeMap<String, String>;

/// The rows of a file, by its columns' names.
fn rows(file: &Path) -> Vec<Row> {
    let text = fs::read_to_string(file).expect("there are results");
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().expect("there is a head").split('\t').collect();
    lines
        .map(|line| {
            let fields = names.iter().zip(line.split('\t'));
            fields
                .map(|(name, field)| ((*name).to_owned(), field.to_owned()))
                .collect()
        })
        .collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().expect("a figure is a number")
}

/// The CPU time of server and store.
fn microseconds(row: &Row) -> f64 {
    number(row, "server_cpu_us_per_request") + number(row, "store_cpu_us_per_request")
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// CPU time of server and store per request that is not due, on each store.
fn cpu() {
    let rows = rows(&results("load.tsv"));
    let ways: Vec<_> = WAYS.iter().chain(&PEERS).copied().collect();
    bars(
        &picture("cpu.svg"),
        "CPU time of server and store per request, not due, 10 KB (µs, lower is better)",
        &STORES,
        &ways,
        |store, way| {
            let of_way =
                |row: &&Row| row["store"] == store && row["way"] == way && row["bytes"] == "10000";
            median(rows.iter().filter(of_way).map(microseconds).collect())
        },
    );
}

/// Instructions of a request over those of the page that does nothing for its session.
fn instructions() {
    let counts = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../cost/counts.tsv"));
    let counts: BTreeMap<_, _> = rows(&counts)
        .into_iter()
        .map(|row| (row["case"].clone(), number(&row, "instructions")))
        .collect();
    bars(
        &picture("instructions.svg"),
        "Instructions of a request over those of the page, in thousands (10 KB, lower is better)",
        &["not due", "due"],
        &[
            "by-hand",
            "always-save",
            "on a plain store",
            "session-refresh",
        ],
        |group, way| {
            let group = group.replace(' ', "_");
            let way = match way {
                "by-hand" => "by_hand",
                "always-save" => "always_save",
                "on a plain store" => "plain",
                _ => "touch",
            };
            let floor = counts.get("not_due/floor_10kb")?;
            Some((counts.get(&format!("{group}/{way}_10kb"))? - floor) / 1000.0)
        },
    );
}

/// What the stores of a million sessions are made to write in the busiest hour of a day.
fn day() {
    let rows = rows(&results("day.tsv"));
    let mut ways = vec!["session-refresh", "always-save"];
    ways.extend(PEERS_OF_A_DAY);
    bars(
        &picture("day.svg"),
        "Changes in the store per second, a million sessions, the busiest hour (lower is better)",
        &["redis", "postgres"],
        &ways,
        |store, way| {
            let row = rows
                .iter()
                .find(|row| row["store"] == store && row["way"] == way)?;
            Some(number(row, "writes_per_second"))
        },
    );
}

/// The 99th percentile of simultaneous requests on one due session.
fn contention() {
    let rows = rows(&results("contention.tsv"));
    lines(
        &picture("contention.svg"),
        "Requests at once on one due session: one writes. 99th percentile (ms)",
        "requests at once",
        (1.0..1_024.0).log_scale().base(2.0),
        &STORES,
        |store| {
            rows.iter()
                .filter(|row| row["store"] == store)
                .map(|row| (number(row, "requests"), number(row, "p99_us") / 1000.0))
                .collect()
        },
    );
}

/// What a request costs with more and more sessions in the store.
fn scale() {
    let rows = rows(&results("scale.tsv"));
    let store_and_way = |row: &Row| format!("{}, {}", row["store"], row["way"]);
    let mut series: Vec<_> = rows.iter().map(store_and_way).collect();
    series.sort();
    series.dedup();
    let series: Vec<_> = series.iter().map(String::as_str).collect();
    lines(
        &picture("scale.svg"),
        "CPU time of server and store per request, not due, 1 KB (µs)",
        "sessions in the store",
        (1_000.0..1_000_000.0).log_scale(),
        &series,
        |series| {
            let mut points = BTreeMap::<u64, Vec<f64>>::new();
            for row in rows.iter().filter(|row| store_and_way(row) == series) {
                let sessions = row["sessions"].parse().expect("a figure is a number");
                points.entry(sessions).or_default().push(microseconds(row));
            }
            points
                .into_iter()
                .filter_map(|(sessions, figures)| Some((sessions as f64, median(figures)?)))
                .collect()
        },
    );
}

/// Half an hour of users who come and go, while processes and the store are killed.
fn soak(store: &str) {
    let rows = rows(&results(&format!("soak-{store}.tsv")));
    let minutes = |row: &Row| number(row, "seconds") / 60.0;
    let last = rows.last().map_or(1.0, minutes);
    lines(
        &results(&format!("soak-{store}.svg")),
        &format!("1,000 users on {store}, two processes; one of the three is killed each minute"),
        "minutes",
        0.0..last,
        &[
            "users who are in, in tens",
            "memory of each process, MB",
            "the other one's",
            "connections",
        ],
        |series| {
            let figure = |row: &Row| match series.chars().next() {
                Some('u') => number(row, "in") / 10.0,
                Some('m') => number(row, "memory_1") / 1000.0,
                Some('t') => number(row, "memory_2") / 1000.0,
                _ => number(row, "connections"),
            };
            rows.iter().map(|row| (minutes(row), figure(row))).collect()
        },
    );
}

/// A group of bars side by side for each of `groups`, one for each of `series` that has a figure there.
fn bars(
    file: &Path,
    caption: &str,
    groups: &[&str],
    series: &[&str],
    height: impl Fn(&str, &str) -> Option<f64>,
) {
    let all = groups
        .iter()
        .flat_map(|group| series.iter().map(move |series| (*group, *series)));
    let highest = all
        .filter_map(|(group, series)| height(group, series))
        .fold(0.0, f64::max);
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE).expect("a picture can be drawn");
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, (FONT, 16))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(
            0.0..groups.len() as f64 * 1.2, // Room for the legend.
            0.0..highest * 1.3,
        )
        .expect("a picture can be drawn");
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .x_labels(0)
        .draw()
        .expect("a picture can be drawn");
    let width = 0.9 / series.len() as f64;
    for (bar, series) in series.iter().enumerate() {
        let color = Palette99::pick(bar).to_rgba();
        let own = groups.iter().enumerate().filter_map(|(place, group)| {
            let left = place as f64 + 0.05 + bar as f64 * width;
            let height = height(group, series)?;
            Some(Rectangle::new(
                [(left, 0.0), (left + width * 0.9, height)],
                color.filled(),
            ))
        });
        chart
            .draw_series(own)
            .expect("a picture can be drawn")
            .label(*series)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
    }
    let names = groups.iter().enumerate().map(|(place, group)| {
        Text::new(
            (*group).to_owned(),
            (place as f64 + 0.4, highest * 1.25),
            (FONT, 15),
        )
    });
    chart.draw_series(names).expect("a picture can be drawn");
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 13))
        .draw()
        .expect("a picture can be drawn");
    area.present().expect("it can be written");
}

/// A line for each of `series`.
fn lines<X>(
    file: &Path,
    caption: &str,
    x_name: &str,
    x_range: X,
    series: &[&str],
    points: impl Fn(&str) -> Vec<(f64, f64)>,
) where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let highest = series
        .iter()
        .flat_map(|series| points(series))
        .map(|(_, y)| y)
        .fold(0.0, f64::max);
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE).expect("a picture can be drawn");
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, (FONT, 16))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(x_range, 0.0..highest * 1.8) // Room for the legend.
        .expect("a picture can be drawn");
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc(x_name)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()
        .expect("a picture can be drawn");
    for (index, series) in series.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(points(series), color.stroke_width(2)))
            .expect("a picture can be drawn")
            .label(*series)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 13))
        .draw()
        .expect("a picture can be drawn");
    area.present().expect("it can be written");
}
