//! Draws `results/*.tsv` as SVG beside them.

use std::{collections::BTreeMap, fs};

use plotters::prelude::*;
use session_refresh_load::{PEERS, STORES, WAYS, results};

const FONT: &str = "sans-serif";
const SIZE: (u32, u32) = (860, 360);

fn main() {
    cpu();
    contention();
}

/// The rows of a file, by its columns' names.
fn rows(name: &str) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(results(name)).expect("there are results");
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

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().expect("a figure is a number")
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// CPU time of server and store per request that is not due: a group of bars per store, a bar per way.
fn cpu() {
    let rows = rows("load.tsv");
    let ways: Vec<_> = WAYS.iter().chain(&PEERS).collect();
    let bars: Vec<_> = STORES
        .iter()
        .enumerate()
        .flat_map(|(group, store)| {
            ways.iter()
                .enumerate()
                .map(move |(bar, way)| (group, store, bar, way))
        })
        .filter_map(|(group, store, bar, way)| {
            let figures = rows
                .iter()
                .filter(|row| {
                    row["store"] == **store && row["way"] == ***way && row["bytes"] == "10000"
                })
                .map(|row| {
                    number(row, "server_cpu_us_per_request")
                        + number(row, "store_cpu_us_per_request")
                })
                .collect();
            Some((group, bar, median(figures)?))
        })
        .collect();
    let highest = bars
        .iter()
        .map(|(_, _, height)| *height)
        .fold(0.0, f64::max);
    let file = results("cpu.svg");
    let area = SVGBackend::new(&file, SIZE).into_drawing_area();
    area.fill(&WHITE).expect("a picture can be drawn");
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "CPU time of server and store per request, not due, 10 KB (µs, lower is better)",
            (FONT, 16),
        )
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(48)
        .build_cartesian_2d(
            0.0..STORES.len() as f64 + 0.6, // Room for the legend.
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
    let width = 0.9 / ways.len() as f64;
    for (bar, way) in ways.iter().enumerate() {
        let color = Palette99::pick(bar).to_rgba();
        let own = bars
            .iter()
            .filter(|(_, its, _)| *its == bar)
            .map(|(group, _, height)| {
                let left = *group as f64 + 0.05 + bar as f64 * width;
                Rectangle::new([(left, 0.0), (left + width * 0.9, *height)], color.filled())
            });
        chart
            .draw_series(own)
            .expect("a picture can be drawn")
            .label(**way)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
    }
    let names = STORES
        .iter()
        .enumerate()
        .map(|(group, store)| Text::new(*store, (group as f64 + 0.4, highest * 1.25), (FONT, 15)));
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

/// The 99th percentile of simultaneous requests on one due session.
fn contention() {
    let rows = rows("contention.tsv");
    let highest = rows
        .iter()
        .map(|row| number(row, "p99_us") / 1000.0)
        .fold(0.0, f64::max);
    let file = results("contention.svg");
    let area = SVGBackend::new(&file, SIZE).into_drawing_area();
    area.fill(&WHITE).expect("a picture can be drawn");
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "Requests at once on one due session: one writes. 99th percentile (ms)",
            (FONT, 16),
        )
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((1.0..256.0).log_scale().base(2.0), 0.0..highest * 1.1)
        .expect("a picture can be drawn");
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc("requests at once")
        .x_label_formatter(&|requests| format!("{requests:.0}"))
        .draw()
        .expect("a picture can be drawn");
    for (index, store) in STORES.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let points = rows
            .iter()
            .filter(|row| row["store"] == *store)
            .map(|row| (number(row, "requests"), number(row, "p99_us") / 1000.0));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))
            .expect("a picture can be drawn")
            .label(*store)
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
