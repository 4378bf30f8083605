// Gradio's loading sign asks for frame after frame, and goes on when it is gone (6.31): a page that does nothing is drawn
// sixty times a second, beside models that need the processor. Where exactly one other callback has come with each frame
// for half a second, it is that one.
const ENOUGH = 30;
let last = 0, alike = 0, left = 40 * ENOUGH;

const look = () => {
  if (alike === ENOUGH) return cancelAnimationFrame(last + 1);   // handles are counted up
  if (left-- === 0) return;
  const now = requestAnimationFrame(look);
  alike = now === last + 2 ? alike + 1 : 0;
  last = now;
};
look();
