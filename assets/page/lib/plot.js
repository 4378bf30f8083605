// Plotly, and the look of its plots in the page's theme.
export const CONFIG = { displayModeBar: false, responsive: true };

// The library, once per page: whichever panel with plots comes first loads it.
export const loadPlotly = (url) => new Promise((resolve, reject) => {
  if (window.Plotly) return resolve(window.Plotly);
  let script = document.querySelector(`script[src="${CSS.escape(url)}"]`);
  if (!script) script = document.head.appendChild(Object.assign(document.createElement('script'), { src: url }));
  script.addEventListener('load', () => resolve(window.Plotly));
  script.addEventListener('error', () => {
    script.remove();   // the next drawing tries again
    reject(new Error(`${url} could not be loaded`));
  });
});

// Draws whenever it is called while the plot is in sight or nearly so, else once the plot comes there: what nobody sees takes no
// time from the text, and Plotly, a third of the work of opening the page, is not loaded for it.
export const inSight = (plot, draw) => {
  let seen = false, wanted = false;
  const drawOrWait = () => {
    wanted = !seen;
    if (seen) draw();
  };
  new IntersectionObserver((entries) => {
    seen = entries.at(-1).isIntersecting;
    if (wanted) drawOrWait();
  }, { rootMargin: '100px 0px' }).observe(plot);
  return drawOrWait;
};

// The theme's colours as they are now, and an axis and a layout in them; what is an axis' own comes first.
export const themeOf = (element) => {
  const style = getComputedStyle(element), colour = (name) => style.getPropertyValue(name).trim();
  const ink = colour('--body-text-color'), soft = colour('--body-text-color-subdued'), line = colour('--border-color-primary');
  const axis = (own) => ({ gridcolor: line, linecolor: line, color: soft, tickfont: { size: 11 }, zeroline: false, ...own,
    title: { ...own.title, font: { size: 11, color: soft } } });
  const layout = { paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false, hovermode: 'closest',
    font: { family: colour('--font'), color: ink, size: 12 },
    hoverlabel: { bgcolor: colour('--block-background-fill'), bordercolor: line, font: { color: ink } } };
  return { colour, ink, soft, axis, layout };
};

// Has a panel drawn anew when the visitor changes between light and dark.
export const onTheme = (redraw) => new MutationObserver(redraw).observe(document.body, { attributes: true, attributeFilter: ['class'] });
