// The window's feed: one connection that brings what is written, open while something is. Gradio only starts things. The
// panels say what they have when it is opened, so that nothing comes twice, whatever happened to the one before.
let source = null, opened = false, wanted = false, again = 0;

const address = () => {
  const have = {};
  document.dispatchEvent(new CustomEvent('citer-have', { detail: have }));
  return `${props.path}/${props.value}?${new URLSearchParams(have)}`;
};

const close = () => {
  clearTimeout(again);
  source?.close();
  source = null;
};

const open = () => {
  if (source || !element.isConnected) return;
  wanted = !props.value;   // asked for before gradio has brought the key
  if (wanted) return;
  clearTimeout(again);
  opened = false;
  source = new EventSource(address());
  source.addEventListener('open', () => { opened = true; });
  source.addEventListener('quiet', close);
  for (const panel of props.panels) {
    source.addEventListener(panel, ({ data }) => document.dispatchEvent(new CustomEvent('citer-news', { detail: { panel, data } })));
  }
  // A connection that broke is opened anew with what is there by then; one that cannot be opened is not needed: gradio
  // brings the finished text.
  source.addEventListener('error', () => {
    const reached = opened;
    close();
    if (reached) again = setTimeout(open, 300); else trigger('unreached');
  });
};

watch('value', () => { if (wanted) open(); });
document.addEventListener('citer-start', open);
document.addEventListener('citer-missed', () => { close(); open(); });
// As soon as a hand is on the slider: what it changes is written before gradio has answered.
document.addEventListener('input', (event) => {
  if (event.target.closest?.('#threshold') && document.querySelector('.stream-text .t')) open();
});
