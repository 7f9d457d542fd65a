// The one place that knows ECharts; loaded when the first chart is shown.
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { type EChartsType, init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import type { ECBasicOption } from "echarts/types/dist/shared";
import type { ChartData } from "./data.ts";

use([BarChart, LineChart, GridComponent, LegendComponent, TooltipComponent, CanvasRenderer]);

export interface Look {
  series: string[];
  ink: string;
  faint: string;
  line: string;
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
  chart.on("click", (event) => {
    const value: unknown = Array.isArray(event.value) ? event.value[0] : undefined;
    if (typeof value === "number") onPick(value);
  });
  return {
    show: (data, look) => chart.setOption(optionOf(data, look), { notMerge: true, lazyUpdate: true }),
    resize: () => chart.resize(),
    dispose: () => chart.dispose(),
  };
}

function optionOf(data: ChartData, look: Look): ECBasicOption {
  const text = { color: look.faint, fontFamily: look.font, fontSize: 11 };
  const valueAxis = {
    type: "value",
    axisLabel: { ...text, formatter: look.value },
    splitLine: { lineStyle: { color: look.line } },
    splitNumber: 4,
    minInterval: 0,
  };
  const isLying = data.kind === "categories" && data.lying === true;
  const categoryAxis =
    data.kind === "time"
      ? {
          type: "time",
          min: data.from,
          max: data.to,
          axisLabel: { ...text, hideOverlap: true },
          axisLine: { lineStyle: { color: look.line } },
          axisTick: { lineStyle: { color: look.line } },
          splitNumber: 5,
        }
      : {
          type: "category",
          data: data.categories,
          inverse: isLying,
          axisLabel: isLying ? { ...text, width: 150, overflow: "truncate" } : { ...text, hideOverlap: true },
          axisLine: { lineStyle: { color: look.line } },
          axisTick: { show: false },
        };
  const stack = data.stacked ? { stack: "all" } : {};
  const series = data.series.map((one, i) => ({
    name: one.name,
    type: data.shape === "bars" ? "bar" : "line",
    data: "points" in one ? one.points : one.values,
    itemStyle: { color: look.series[i % look.series.length] },
    lineStyle: { width: 1.5 },
    showSymbol: false,
    barMaxWidth: 28,
    barCategoryGap: "15%",
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
            type: "plain",
            icon: "roundRect",
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
        const head = data.kind === "time" ? look.moment(new Date(Number(first.axisValue))) : String(first.axisValue);
        const lines = points.flatMap(({ seriesName, value }) => {
          const number: unknown = Array.isArray(value) ? value[1] : value;
          return typeof number === "number" ? [`${seriesName}  ${look.value(number)}`] : [];
        });
        return plain([head, ...lines].join("\n"));
      },
    },
    xAxis: isLying ? valueAxis : categoryAxis,
    yAxis: isLying ? categoryAxis : valueAxis,
    series,
  };
}

/** Rich text reads `{name|…}` as a style: names of series come from events. */
function plain(text: string): string {
  return text.replace(/[{}|]/g, " ");
}
