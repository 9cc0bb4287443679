//! Lines over two axes, as SVG inside the page.

use super::curves::{MOST_POINTS, thinned};
use super::escaped;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// In the key under the plot.
    pub name: String,
    /// From left to right; where a value is not finite the line has a gap.
    pub points: Vec<(f64, f64)>,
}

/// Lines over two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Under the horizontal axis.
    pub x_label: String,
    /// Above the vertical axis.
    pub y_label: String,
    /// The lines; beyond eight the colours repeat.
    pub series: Vec<Series>,
}

/// Units of the drawing; a page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
/// Room for the numbers.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 44.0;
/// Colours in the style sheet.
const COLOURS: usize = 8;
/// So that lines differ without their colours.
const DASHES: [&str; 4] = ["", "7 4", "2 3", "10 3 2 3"];

impl Plot {
    /// The plot and its key.
    pub(super) fn svg(&self) -> String {
        let finite =
            || self.series.iter().flat_map(|series| &series.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let title = escaped(&self.title);
        let (Some(across), Some(up)) = (Axis::over(finite().map(|(x, _)| *x)), Axis::over(finite().map(|(_, y)| *y)))
        else {
            return format!("<figure><figcaption>{title}</figcaption><p>There are no numbers yet.</p></figure>\n");
        };
        let frame = Frame { across, up };
        let lines: Vec<String> =
            self.series.iter().enumerate().map(|(place, series)| frame.line(place, &series.points)).collect();
        format!(
            "<figure><figcaption>{title}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{}\">\n<title>{title}</title>\n{}{}</svg>\n{}</figure>\n",
            escaped(&self.in_words()),
            frame.axes(&self.x_label, &self.y_label),
            lines.concat(),
            self.key()
        )
    }

    /// What somebody hears who does not see it.
    fn in_words(&self) -> String {
        let about = |series: &Series| {
            let finite: Vec<&(f64, f64)> = series.points.iter().filter(|(_, y)| y.is_finite()).collect();
            let (Some(first), Some(last)) = (finite.first(), finite.last()) else {
                return format!("{}: no numbers", series.name);
            };
            let lowest = finite.iter().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
            let highest = finite.iter().map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max);
            let [from, to, low, high] = [first.1, last.1, lowest, highest].map(shortened);
            format!("{}: from {from} to {to}, lowest {low}, highest {high}", series.name)
        };
        let series: Vec<String> = self.series.iter().map(about).collect();
        format!("{}, {} over {}. {}", self.title, self.y_label, self.x_label, series.join("; "))
    }

    fn key(&self) -> String {
        let mark = |(place, series): (usize, &Series)| {
            let stroke = stroke(place);
            let name = escaped(&series.name);
            format!(
                "<li><svg viewBox=\"0 0 32 12\" aria-hidden=\"true\"><path {stroke} d=\"M0 6H32\"/></svg>{name}</li>\n"
            )
        };
        let marks: String = self.series.iter().enumerate().map(mark).collect();
        format!("<ul class=\"key\">\n{marks}</ul>\n")
    }
}

fn stroke(place: usize) -> String {
    let dashes = DASHES[place % DASHES.len()];
    format!(
        "class=\"curve s{}\" stroke-dasharray=\"{}\"",
        place % COLOURS,
        if dashes.is_empty() { "none" } else { dashes }
    )
}

/// An axis and the numbers on it.
struct Axis {
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    /// Covers the values with steps of 1, 2 or 5 times a power of ten; none without a value.
    fn over(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if !(low.is_finite() && high.is_finite()) {
            return None;
        }
        let least = (low.abs().max(high.abs()) * 1e-9).max(f64::MIN_POSITIVE * 1e9);
        let (low, high) = if high - low < least { (low - least.max(0.5), high + least.max(0.5)) } else { (low, high) };
        let span = (high / 2.0 - low / 2.0) * 2.0;
        if !span.is_finite() {
            return None;
        }
        let rough = span / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        Some(Self { from: (low / step).floor() * step, to: (high / step).ceil() * step, step })
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let number = (((self.to - self.from) / self.step).round() as usize).min(20);
        (0..=number).map(|place| {
            let value = self.from + place as f64 * self.step;
            if value.abs() < self.step * 1e-9 { 0.0 } else { value }
        })
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }
}

struct Frame {
    across: Axis,
    up: Axis,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.across.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.up.share(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, x_label: &str, y_label: &str) -> String {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut svg = String::new();
        for value in self.up.ticks() {
            let (y, text) = (self.y(value), shortened(value));
            svg.push_str(&format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
            svg.push_str(&format!(
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
                LEFT - 6.0,
                y + 4.0
            ));
        }
        for value in self.across.ticks() {
            let (x, text) = (self.x(value), shortened(value));
            svg.push_str(&format!("<path class=\"grid\" d=\"M{x:.1} {bottom}v5\"/>"));
            svg.push_str(&format!(
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>\n",
                bottom + 18.0
            ));
        }
        svg.push_str(&format!("<text class=\"label\" x=\"4\" y=\"14\">{}</text>\n", escaped(y_label)));
        svg.push_str(&format!(
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            (LEFT + right) / 2.0,
            HEIGHT - 8.0,
            escaped(x_label)
        ));
        svg
    }

    fn line(&self, place: usize, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        let mut is_drawing = false;
        for (x, y) in thinned(points, MOST_POINTS) {
            if !(x.is_finite() && y.is_finite()) {
                is_drawing = false;
                continue;
            }
            path.push_str(&format!("{}{:.1} {:.1}", if is_drawing { 'L' } else { 'M' }, self.x(x), self.y(y)));
            is_drawing = true;
        }
        format!("<path {} d=\"{path}\"/>\n", stroke(place))
    }
}

/// A number with as many digits as a reader needs.
fn shortened(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>) -> String {
        let series = vec![Series { name: "lm".to_owned(), points }];
        Plot { title: "loss".to_owned(), x_label: "step".to_owned(), y_label: "nats".to_owned(), series }.svg()
    }

    #[test]
    fn axes_have_round_numbers_that_cover_the_values() {
        let axis = Axis::over([0.37, 4.2].into_iter()).unwrap();
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let small = Axis::over([2e-5, 3e-4].into_iter()).unwrap();
        assert_eq!(small.ticks().map(shortened).collect::<Vec<_>>(), ["0", "1.0e-4", "2.0e-4", "3.0e-4"]);
        let one = Axis::over([7.0].into_iter()).unwrap();
        assert!(one.from < 7.0 && one.to > 7.0);
    }

    #[test]
    fn a_plot_says_in_words_what_it_shows() {
        let svg = plot(vec![(1.0, 3.0), (2.0, 0.5), (3.0, 1.0)]);
        assert!(svg.contains("aria-label=\"loss, nats over step. lm: from 3 to 1, lowest 0.5, highest 3\""), "{svg}");
    }

    #[test]
    fn a_value_that_is_not_a_number_is_a_gap() {
        let svg = plot(vec![(1.0, 3.0), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1.0), (5.0, 1.5)]);
        let path = svg.lines().find(|line| line.starts_with("<path class=\"curve s0")).unwrap();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn no_numbers_and_extreme_ones_do_not_break_the_page() {
        for points in [
            vec![],
            vec![(0.0, f64::NAN)],
            vec![(0.0, f64::MAX), (1.0, f64::MIN)],
            vec![(0.0, 0.0)],
            vec![(1.0, 1e300), (1.0, 1e-300)],
        ] {
            let svg = plot(points);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(plot(vec![]).contains("There are no numbers yet."));
    }
}
