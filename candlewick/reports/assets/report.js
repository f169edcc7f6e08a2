// Hands the figures that candlewick/reports/figures.py made to plotly, and moves them. Everything drawn is plotly's.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const chart = (id, name) => new Chart(id, (isDark) => data.templates[isDark ? "dark" : "light"][name], data.config);
  const equity = chart("equity-chart", "equity"), candles = chart("candle-chart", "candles");
  const picker = document.getElementById("symbol-picker"), ranges = document.getElementById("range-picker");
  const choose = (index, from, to) => {
    const symbol = data.symbols[index], { data: traces, layout } = data.candles;
    document.getElementById("merged-note").textContent = symbol.merged > 1 ? `To keep this file small, each bar drawn is ${symbol.merged} bars of ${data.timeframe}.` : "";
    for (const button of picker.querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.value) === index));
    if (picker.querySelector("select")) picker.querySelector("select").value = String(index);
    const shown = Math.max(60, Math.round((candles.node.clientWidth || 1100) / 6)) * symbol.step;
    const around = from === undefined ? 0 : Math.max((to - from) * 0.6, 25 * symbol.step);
    candles.draw(
      traces.map((trace, row) => ({ ...trace, ...symbol.data[row] })),
      {
        ...layout, annotations: symbol.annotations, margin: { ...layout.margin, r: symbol.right },
        xaxis: { ...layout.xaxis, range: [symbol.first, symbol.last] },
        yaxis: { ...layout.yaxis, tickformat: symbol.tickformat },
      },
      symbol.step, from === undefined ? symbol.last - shown : from - around, from === undefined ? symbol.last : to + around,
    );
  };
  equity.draw(data.equity.data, data.equity.layout, data.equity.step, ...data.equity.layout.xaxis.range);
  if (data.symbols.length) {
    picker.addEventListener("click", (event) => { if (event.target.closest("button")) choose(Number(event.target.closest("button").value)); });
    picker.addEventListener("change", (event) => choose(Number(event.target.value)));
    ranges.addEventListener("click", (event) => { if (event.target.closest("button")) candles.act(event.target.closest("button").value); });
    document.addEventListener("click", (event) => {
      const jump = event.target.closest("button.jump");
      if (!jump) return;
      choose(Number(jump.dataset.symbol), Number(jump.dataset.from), Number(jump.dataset.to));
      document.getElementById("candles").scrollIntoView({ behavior: "smooth", block: "start" });
    });
    choose(Math.max(0, data.symbols.findIndex(({ deals }) => deals)));
  }
  const charts = data.symbols.length ? [equity, candles] : [equity];
  const paint = (isPrinted) => { document.documentElement.classList.toggle("printing", isPrinted); charts.forEach((chart) => chart.paint(isPrinted)); };
  dark.addEventListener("change", () => paint(false));
  window.addEventListener("beforeprint", () => paint(true));
  window.addEventListener("afterprint", () => paint(false));
})();
