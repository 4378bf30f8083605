// The chart: quality against cost, with 95 % intervals, both ends in their colours, the picked point ringed. Drawn as SVG.
const WIDE = 640, HIGH = 300, [LEFT, RIGHT, TOP, BOTTOM] = [56, 12, 12, 40];
const SVG = 'http://www.w3.org/2000/svg', COLOURS = ['var(--slm-mark)', 'var(--llm-mark)'];

const draw = (parent, tag, attributes, text) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
};

// Draws points { cost, quality, low, high, label }, all in shares of 1, into an <svg>; `pick(number)` is told which one was clicked.
export const drawChart = (svg, points, picked, axis, pick) => {
  svg.replaceChildren();
  svg.setAttribute('viewBox', `0 0 ${WIDE} ${HIGH}`);
  const most = Math.max(1, ...points.map(({ cost }) => cost)), floor = Math.min(...points.map(({ low }) => low)), ceiling = Math.max(...points.map(({ high }) => high));
  const to = Math.min(1, Math.max(0.1, Math.ceil(10 * ceiling) / 10)), from = Math.max(0, Math.min(to - 0.1, Math.floor(10 * floor) / 10));
  const x = (cost) => LEFT + ((WIDE - LEFT - RIGHT) * cost) / most, y = (quality) => TOP + ((HIGH - TOP - BOTTOM) * (to - quality)) / (to - from);
  const line = (x1, y1, x2, y2, look) => draw(svg, 'line', { x1, y1, x2, y2, ...look });
  for (let part = 0; part <= 4; part++) {
    const cost = (most * part) / 4, quality = from + ((to - from) * part) / 4;
    line(LEFT, y(quality), WIDE - RIGHT, y(quality), { class: 'grid' });
    draw(svg, 'text', { x: LEFT - 6, y: y(quality) + 4, 'text-anchor': 'end' }, `${Math.round(100 * quality)} %`);
    draw(svg, 'text', { x: x(cost), y: HIGH - BOTTOM + 16, 'text-anchor': 'middle' }, `${Math.round(100 * cost)} %`);
  }
  draw(svg, 'text', { x: (LEFT + WIDE - RIGHT) / 2, y: HIGH - 6, 'text-anchor': 'middle' }, 'bytes moved, % of the large model alone');
  draw(svg, 'text', { x: -(HIGH - BOTTOM) / 2, y: 12, 'text-anchor': 'middle', transform: 'rotate(-90)' }, axis);
  draw(svg, 'polyline', { points: points.map(({ cost, quality }) => `${x(cost)},${y(quality)}`).join(' '), class: 'curve' });
  points.forEach(({ cost, quality, low, high, label }, i) => {
    const end = i === 0 ? 0 : i === points.length - 1 ? 1 : null, [cx, cy] = [x(cost), y(quality)];
    line(cx, y(low), cx, y(high), { class: 'interval' });
    if (i === picked) draw(svg, 'circle', { cx, cy, r: 10, class: 'picked' });
    const dot = draw(svg, 'circle', { cx, cy, r: end === null ? 4 : 6, class: 'point', ...(end === null ? {} : { style: `fill: ${COLOURS[end]}` }) });
    draw(dot, 'title', {}, label);
    dot.addEventListener('click', () => pick(i));
  });
};
