// The plotting library, once per page: whichever script with plots comes first loads it.
const plotly = new Promise((resolve, reject) => {
  if (window.Plotly) return resolve(window.Plotly);
  let script = document.querySelector(`script[src="${CSS.escape(props.plotly)}"]`);
  if (!script) script = document.head.appendChild(Object.assign(document.createElement('script'), { src: props.plotly }));
  script.addEventListener('load', () => resolve(window.Plotly));
  script.addEventListener('error', () => reject(new Error(`${props.plotly} could not be loaded`)));
});
