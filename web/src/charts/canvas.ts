// The one place that knows ECharts; loaded when the first chart is shown.
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendScrollComponent, TooltipComponent } from "echarts/components";
import { type EChartsType, init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import type { ECBasicOption } from "echarts/types/dist/shared";
import { type ChartData, filled } from "./data.ts";

/** About what labels and margins take of a chart's width. */
const AXIS_WIDTH = 56;

/** Marks of a time axis in digits, since ECharts names months in English; where a larger unit begins they are bold. */
const MOMENTS = Object.fromEntries(
  [
    ["month", "{yyyy}-{MM}"],
    ["day", "{M}/{d}"],
    ["hour", "{HH}:{mm}"],
  ].map(([unit, text]) => [unit, [text, `{primary|${text}}`]]),
);

use([BarChart, LineChart, GridComponent, LegendScrollComponent, TooltipComponent, CanvasRenderer]);

export interface Look {
  series: string[];
  ink: string;
  faint: string;
  line: string;
  bad: string;
  surface: string;
  font: string;
  value: (value: number) => string;
  moment: (at: Date) => string;
}

export interface Canvas {
  show: (data: ChartData, look: Look) => void;
  resize: () => void;
  dispose: () => void;
}

export function canvasIn(element: HTMLElement, onPick: (at: number) => void): Canvas {
  const chart: EChartsType = init(element, null, { renderer: "canvas" });
  let shown: { data: ChartData; look: Look } | undefined;
  const draw = () => {
    if (shown === undefined) return;
    chart.setOption(optionOf(shown.data, shown.look, chart.getWidth()), { notMerge: true, lazyUpdate: true });
  };
  chart.on("click", (event) => {
    const at: unknown = Array.isArray(event.value) ? event.value[0] : undefined;
    if (typeof at === "number" && shown) onPick(at - halfStep(shown.data));
  });
  return {
    show: (data, look) => {
      shown = { data, look };
      draw();
    },
    resize: () => {
      chart.resize();
      draw();
    },
    dispose: () => chart.dispose(),
  };
}

/** Bars are drawn in the middle of their step. */
function halfStep(data: ChartData): number {
  return data.kind === "time" && data.shape === "bars" ? (data.step ?? 0) / 2 : 0;
}

/** As wide as its step, less a little air; side by side they share it. */
function barWidth(data: ChartData, width: number): object {
  if (data.kind !== "time" || data.step === undefined) return { barMaxWidth: 40, barCategoryGap: "25%" };
  const step = ((width - AXIS_WIDTH) * data.step) / (data.to - data.from);
  return { barWidth: Math.max(1, (step * 0.85) / (data.stacked ? 1 : data.series.length)), barGap: "0%" };
}

function optionOf(data: ChartData, look: Look, width: number): ECBasicOption {
  const text = { color: look.faint, fontFamily: look.font, fontSize: 11 };
  const valueAxis = {
    type: "value",
    axisLabel: { ...text, formatter: look.value },
    splitLine: { lineStyle: { color: look.line } },
    splitNumber: 4,
    // Where all values are whole, so are the marks.
    minInterval: isWhole(data) ? 1 : 0,
  };
  const isLying = data.kind === "categories" && data.lying === true;
  const categoryAxis =
    data.kind === "time"
      ? {
          type: "time",
          min: data.from,
          max: data.to,
          axisLabel: { ...text, hideOverlap: true, formatter: MOMENTS },
          axisLine: { lineStyle: { color: look.line } },
          axisTick: { lineStyle: { color: look.line } },
          splitNumber: 5,
          // Bars at the edges are cut, and the axes of all charts of a page agree.
          containShape: false,
        }
      : {
          type: "category",
          data: data.categories,
          inverse: isLying,
          axisLabel: isLying ? { ...text, width: 150, overflow: "truncate" } : { ...text, hideOverlap: true },
          axisLine: { lineStyle: { color: look.line } },
          axisTick: { show: false },
        };
  const half = halfStep(data);
  const values =
    data.kind === "categories"
      ? data.series.map((one) => one.values)
      : (data.stacked ? filled(data) : data.series).map((one) => one.points.map(([at, value]) => [at + half, value]));
  const stack = data.stacked ? { stack: "all" } : {};
  const series = data.series.map((one, i) => ({
    name: one.name,
    type: data.shape === "bars" ? "bar" : "line",
    data: values[i],
    itemStyle: { color: "isBad" in one && one.isBad ? look.bad : look.series[i % look.series.length] },
    lineStyle: { width: 1.5 },
    showSymbol: false,
    ...barWidth(data, width),
    ...stack,
  }));
  return {
    // A page that is redrawn every few seconds is calmer, and cheaper, without.
    animation: false,
    textStyle: { fontFamily: look.font },
    grid: { left: 4, right: 12, top: data.series.length > 1 ? 30 : 10, bottom: 2, containLabel: true },
    legend:
      data.series.length > 1
        ? {
            top: 0,
            left: 0,
            type: "scroll",
            icon: "roundRect",
            right: 0,
            pageIconSize: 10,
            pageIconColor: look.ink,
            pageIconInactiveColor: look.line,
            pageTextStyle: text,
            itemWidth: 10,
            itemHeight: 10,
            textStyle: { ...text, color: look.ink },
          }
        : { show: false },
    tooltip: {
      trigger: "axis",
      // HTML tooltips carry style attributes, which the page's policy refuses, and values as markup.
      renderMode: "richText",
      confine: true,
      backgroundColor: look.surface,
      borderColor: look.line,
      textStyle: { color: look.ink, fontFamily: look.font, fontSize: 12 },
      axisPointer: { type: data.shape === "bars" ? "shadow" : "line", lineStyle: { color: look.faint } },
      formatter: (points: { axisValue: number | string; seriesName: string; value: unknown }[]) => {
        const [first] = points;
        if (first === undefined) return "";
        const head =
          data.kind === "time" ? look.moment(new Date(Number(first.axisValue) - half)) : String(first.axisValue);
        const lines = points.flatMap(({ seriesName, value }) => {
          const number: unknown = Array.isArray(value) ? value[1] : value;
          return typeof number === "number" && number !== 0 ? [`${seriesName}  ${look.value(number)}`] : [];
        });
        return plain([head, ...lines].join("\n"));
      },
    },
    xAxis: isLying ? valueAxis : categoryAxis,
    yAxis: isLying ? categoryAxis : valueAxis,
    series,
  };
}

function isWhole(data: ChartData): boolean {
  return data.kind === "time"
    ? data.series.every((one) => one.points.every(([, value]) => Number.isInteger(value)))
    : data.series.every((one) => one.values.every((value) => value === null || Number.isInteger(value)));
}

/** Rich text reads `{name|…}` as a style: names of series come from events. */
function plain(text: string): string {
  return text.replace(/[{}|]/g, " ");
}
